//! The `manual` driver: a person switches. It remembers what is asked of each port, and shows what a person last
//! said to have done; who waits for whom is told by [`crate::machine::waiting`].
//!
//! What was said is forgotten with the coordinator: after a start nobody knows how a port is switched until
//! somebody says so again.

use super::{Answer, Port, Power, PowerError, PowerSwitch, Reading};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// A person may be asleep, but is there within a day.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// What is known of a port.
#[derive(Clone, Copy, Default)]
struct Known {
    wanted: Option<Power>,
    confirmed: Option<Power>,
}

/// A switch whose ports are switched by hand.
#[derive(Default)]
pub(super) struct ManualSwitch {
    ports: Mutex<HashMap<String, Known>>,
}

impl ManualSwitch {
    fn ports(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.ports.lock().expect("nobody panics while holding the ports")
    }
}

impl PowerSwitch for ManualSwitch {
    fn set<'a>(&'a self, port: &'a Port, power: Power) -> Answer<'a, ()> {
        self.ports().entry(port.port.clone()).or_default().wanted = Some(power);
        Box::pin(async { Ok(()) })
    }

    fn read<'a>(&'a self, port: &'a Port) -> Answer<'a, Reading> {
        let known = self.ports().get(&port.port).copied().unwrap_or_default();
        let on = match known {
            Known { confirmed: Some(power), .. } => Ok(power == Power::On),
            // It may be so already, but nobody has looked.
            Known { wanted: Some(power), .. } => Ok(power == Power::Off),
            Known { wanted: None, confirmed: None } => {
                Err(PowerError::Refused(format!("nobody has said yet how port {} is switched", port.port)))
            }
        };
        Box::pin(async move { Ok(Reading { on: on?, delivering: None }) })
    }

    fn patience(&self) -> Option<Duration> {
        Some(PATIENCE)
    }

    fn confirm(&self, port: &str) -> Result<(), PowerError> {
        let mut ports = self.ports();
        match ports.get_mut(port) {
            Some(Known { wanted: Some(power), confirmed }) => {
                *confirmed = Some(*power);
                Ok(())
            }
            _ => Err(PowerError::Refused(format!("nobody was asked to switch port {port}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_shows_what_a_person_said_and_nothing_before() {
        let switch = ManualSwitch::default();
        let port = Port { port: "3".into(), node: "pi-3".into() };
        let shown = async |switch: &ManualSwitch| switch.read(&port).await.map(|reading| reading.on);
        assert!(matches!(shown(&switch).await, Err(PowerError::Refused(_))));
        assert!(switch.confirm("3").unwrap_err().to_string().contains("nobody was asked"));
        for power in [Power::Off, Power::On, Power::Off] {
            switch.set(&port, power).await.unwrap();
            assert_eq!(shown(&switch).await, Ok(power == Power::Off), "nobody has switched it yet");
            assert!(switch.confirm("4").is_err());
            switch.confirm("3").unwrap();
            assert_eq!(shown(&switch).await, Ok(power == Power::On));
        }
        switch.set(&port, Power::Off).await.unwrap();
        assert_eq!(shown(&switch).await, Ok(false), "it is off already");
    }
}
