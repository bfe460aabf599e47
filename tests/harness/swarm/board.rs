//! A virtual board: power, firmware, boot root or card, over and over. Its card is a memory of what was configured there.

use super::agent;
use super::firmware::{self, Found};
use super::http;
use super::network::{address, mac};
use super::power::{Power, place};
use piseduce_protocol::boot::BootParameters;
use piseduce_protocol::bundle::Bundle;
use piseduce_protocol::id::Serial;
use std::collections::BTreeMap;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// The pause of a bootloader that found nothing, and of a card's reports that nobody took.
const PAUSE: Duration = Duration::from_secs(1);
/// The model that all boards have.
const MODEL: &str = "Raspberry Pi 4 Model B Rev 1.4";

/// What all boards of a swarm share.
pub(super) struct Shared {
    /// How long the work of a state takes.
    pub(super) work: Duration,
    /// Whether copies go on and on, so that all agents are there at once.
    pub(super) copies_wait: watch::Sender<bool>,
    /// How many agents have a link to the broker.
    pub(super) linked: AtomicUsize,
    /// What should not happen.
    pub(super) faults: Faults,
}

impl Shared {
    /// What boards share whose work takes so long.
    pub(super) fn new(work: Duration) -> Shared {
        let (copies_wait, linked) = (watch::Sender::new(false), AtomicUsize::new(0));
        Shared { work, copies_wait, linked, faults: Faults::default() }
    }
}

/// What should not happen, counted.
#[derive(Default)]
pub(super) struct Faults {
    /// Connections that the broker refused or ended.
    pub(super) links: AtomicU64,
    /// Commands whose seal is wrong.
    pub(super) seals: AtomicU64,
    /// Manifests and bundles that cannot be had or are others than the command named.
    pub(super) fetches: AtomicU64,
    /// Boots without an answer over TFTP.
    pub(super) boots: AtomicU64,
    /// Reports of a card that nobody took.
    pub(super) reports: AtomicU64,
}

impl Faults {
    /// Each with its name.
    pub(super) fn named(&self) -> BTreeMap<&'static str, u64> {
        let faults = [
            ("connection that the broker refused or ended", &self.links),
            ("command with a wrong seal", &self.seals),
            ("manifest or bundle that was not what the command named", &self.fetches),
            ("boot that TFTP did not answer", &self.boots),
            ("report of a card that nobody took", &self.reports),
        ];
        faults.into_iter().map(|(name, count)| (name, count.load(Ordering::Relaxed))).collect()
    }
}

/// One more of a fault.
pub(super) fn count(fault: &AtomicU64) {
    fault.fetch_add(1, Ordering::Relaxed);
}

/// A board.
pub(super) struct Board {
    /// Its number, from 0.
    index: usize,
    pub(super) serial: Serial,
    pub(super) address: Ipv4Addr,
    pub(super) shared: Arc<Shared>,
}

/// What is on a card.
#[derive(Default)]
pub(super) struct Card {
    /// What its system was configured with, once it boots.
    pub(super) system: Option<Bundle>,
    /// Whether the first boot's script has run.
    has_run: bool,
}

impl Card {
    /// The card boots this from now on.
    pub(super) fn configured(bundle: Bundle) -> Card {
        Card { system: Some(bundle), has_run: false }
    }
}

impl Board {
    /// The board with this number.
    pub(super) fn new(index: usize, shared: Arc<Shared>) -> Board {
        let number = u64::try_from(index + 1).expect("a swarm is small");
        Board { index, serial: Serial(0x1000_0000 << 32 | number), address: address(index), shared }
    }

    pub(super) fn name(&self) -> String {
        format!("pi-{}", self.index + 1)
    }

    pub(super) fn mac(&self) -> String {
        mac(self.index)
    }

    pub(super) fn model(&self) -> &'static str {
        MODEL
    }

    /// Its entry in an inventory.
    pub(super) fn inventory(&self) -> String {
        let (switch, port) = place(self.index);
        format!(
            "[[node]]\nname = \"{}\"\nserial = \"{}\"\nmac = \"{}\"\nmodel = \"{MODEL}\"\nswitch = \"{switch}\"\nport = \"{port}\"\n\n",
            self.name(),
            self.serial,
            self.mac()
        )
    }

    /// Lives as its port says.
    pub(super) async fn live(self: Arc<Self>, mut power: watch::Receiver<Power>) {
        let mut card = Card::default();
        loop {
            let Ok(on) = power.wait_for(|power| power.is_on).await.map(|power| *power) else { return };
            tokio::select! {
                _ = power.wait_for(|now| *now != on) => {}
                () = self.run(&mut card) => {}
            }
        }
    }

    /// From power-on until the power is cut.
    async fn run(self: &Arc<Self>, card: &mut Card) {
        loop {
            match firmware::boot(self.address, self.serial.short()).await {
                Ok(Found::BootRoot(line)) => match BootParameters::parse(&line) {
                    Ok(parameters) => agent::run(self, &parameters, card).await,
                    // A boot root without words for an agent keeps still.
                    Err(_) => pending().await,
                },
                Ok(Found::Nothing) if card.system.is_some() => {
                    self.system(card).await;
                    return pending().await;
                }
                Ok(Found::Nothing) => sleep(PAUSE).await,
                Err(_) => {
                    count(&self.shared.faults.boots);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// The system on the card: reports its boot, and the end of the script the first time.
    async fn system(&self, card: &mut Card) {
        let Some(bundle) = card.system.clone() else { return };
        self.report(&bundle, "booted", &bundle.booted_token).await;
        if !card.has_run {
            self.report(&bundle, "started", &bundle.first_boot_token).await;
            self.report(&bundle, "finished/0", &bundle.first_boot_token).await;
            card.has_run = true;
        }
    }

    async fn report(&self, bundle: &Bundle, what: &str, token: &str) {
        let url = bundle.first_boot_url.strip_prefix("http://").and_then(|url| url.split_once('/'));
        let Some((Ok(head), path)) = url.map(|(head, path)| (head.parse::<SocketAddr>(), path)) else {
            return count(&self.shared.faults.reports);
        };
        let (path, body) = (format!("/{path}/{what}"), format!("{token}\n"));
        loop {
            match http::ask(self.address, head, "POST", &path, body.as_bytes()).await {
                Ok((200..300, _)) => return,
                _ => count(&self.shared.faults.reports),
            }
            sleep(PAUSE).await;
        }
    }
}
