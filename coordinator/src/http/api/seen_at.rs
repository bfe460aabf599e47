//! At which switch and port hardware addresses were seen.

use super::super::Shared;
use crate::power::Station;
use std::time::Duration;

/// How long all switches together may take to say what they have seen.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// The addresses that each switch has seen.
pub(super) struct SeenAt(Vec<(String, Vec<Station>)>);

impl SeenAt {
    /// Asks all switches; one that does not answer has seen none.
    pub(super) async fn ask(shared: &Shared) -> SeenAt {
        let asking = shared.lines.all().into_iter().map(|(switch, line)| async move {
            let asked = tokio::time::timeout(SEEN_WITHIN, line.ask(|switch| switch.stations())).await;
            let table = asked.ok().and_then(Result::ok).flatten().unwrap_or_default();
            (switch.attributes.name, table.stations)
        });
        SeenAt(futures_util::future::join_all(asking).await)
    }

    /// Switch and port where `mac` was seen.
    pub(super) fn place(&self, mac: Option<&str>) -> (Option<String>, Option<String>) {
        let at = self.0.iter().find_map(|(switch, stations)| {
            let station = stations.iter().find(|station| Some(station.mac.as_str()) == mac)?;
            Some((switch.clone(), station.port.clone()))
        });
        at.unzip()
    }
}
