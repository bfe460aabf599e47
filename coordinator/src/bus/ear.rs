//! What agents say, opened: only the live boot of a node is believed, each message once. What fails is an
//! error for the log and nothing else.

use super::LiveBoots;
use super::link::Heard;
use crate::credentials::Credentials;
use piseduce_protocol::id::{BootNumber, Serial};
use piseduce_protocol::report::Report;
use piseduce_protocol::seal::{self, BootKeys, SealError, Window};
use piseduce_protocol::topic::{Site, Topic};
use std::collections::HashMap;
use tokio::sync::watch;

/// Opens what agents say.
pub(super) struct Ear {
    site: Site,
    credentials: Credentials,
    live: watch::Receiver<LiveBoots>,
    peers: HashMap<Serial, Peer>,
}

/// What is remembered of an agent, for one boot.
struct Peer {
    boot: BootNumber,
    keys: BootKeys,
    report: Window,
    beat: Window,
    link: Window,
}

impl Ear {
    pub(super) fn new(site: Site, credentials: Credentials, live: watch::Receiver<LiveBoots>) -> Self {
        Ear { site, credentials, live, peers: HashMap::new() }
    }

    /// What the message says; none on a topic that agents do not speak on.
    pub(super) fn open(&mut self, topic: &str, payload: &[u8]) -> Result<Option<Heard>, SealError> {
        let Some(parsed) = self.site.parse(topic) else { return Ok(None) };
        let (Topic::Report(serial) | Topic::Beat(serial) | Topic::Link(serial)) = parsed else {
            return Ok(None);
        };
        let boot = seal::claimed_boot(payload)?;
        if self.live.borrow().get(&serial) != Some(&boot) {
            return Err(SealError::Boot(boot));
        }
        let peer = self.peer(serial, boot);
        let key = &peer.keys.message;
        Ok(Some(match parsed {
            Topic::Report(_) => {
                let (_, report): (_, Report) = seal::open(key, topic, boot, &mut peer.report, payload)?;
                Heard::Report(serial, boot, report)
            }
            Topic::Beat(_) => {
                let (_, beat) = seal::open(key, topic, boot, &mut peer.beat, payload)?;
                Heard::Beat(serial, boot, beat)
            }
            _ => {
                let (_, ()) = seal::open(key, topic, boot, &mut peer.link, payload)?;
                Heard::Lost(serial, boot)
            }
        }))
    }

    fn peer(&mut self, serial: Serial, boot: BootNumber) -> &mut Peer {
        let credentials = &self.credentials;
        let fresh = || Peer {
            boot,
            keys: credentials.boot_keys(serial, boot),
            report: Window::default(),
            beat: Window::default(),
            link: Window::default(),
        };
        let peer = self.peers.entry(serial).or_insert_with(fresh);
        if peer.boot != boot {
            *peer = fresh();
        }
        peer
    }
}
