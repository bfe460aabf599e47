//! A gate with a doorkeeper of few words, and the clients that knock at it.

use crate::raw::{Connect, Raw};
use piseduce_coordinator::bus::gate::{Gate, GateSettings};
use piseduce_coordinator::bus::{Admission, Doorkeeper, Identity, LiveBoots, Login, Refusal};
use piseduce_protocol::boot::client_id;
use piseduce_protocol::id::{BootNumber, Serial};
use piseduce_protocol::topic::{Site, Topic};
use std::future::pending;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

pub(crate) const SERIAL: Serial = Serial(0x1000_0000_0000_00ab);
pub(crate) const OTHER: Serial = Serial(0x1000_0000_0000_00ac);
pub(crate) const BOOT: BootNumber = BootNumber(7);
pub(crate) const PASSWORD: &str = "secret";

/// The outcome of `future`, which must not take long.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(15), future).await.unwrap_or_else(|_| panic!("15 s were not enough: {what}"))
}

/// Lets in the coordinator and monitors by [`PASSWORD`], and agents whose password is a boot number.
pub(crate) struct Words;

impl Doorkeeper for Words {
    fn admit<'a>(&'a self, login: &'a Login, _: IpAddr) -> Admission<'a> {
        Box::pin(async move {
            let serial = login.user_name.parse::<Serial>();
            match (login.user_name.as_str(), login.password.as_str()) {
                ("coordinator", PASSWORD) => Ok(Identity::Coordinator),
                ("banned", PASSWORD) => Err(Refusal::NotAuthorised),
                ("unknown yet", PASSWORD) => Err(Refusal::Unavailable),
                ("slow", PASSWORD) => pending().await,
                (name, PASSWORD) => Ok(Identity::Monitor { name: name.into() }),
                (_, boot) => match (serial, boot.parse()) {
                    (Ok(serial), Ok(boot)) => Ok(Identity::Agent { serial, boot: BootNumber(boot) }),
                    _ => Err(Refusal::Credentials),
                },
            }
        })
    }
}

pub(crate) struct Bench {
    pub(crate) gate: Gate,
    pub(crate) live: watch::Sender<LiveBoots>,
}

impl Bench {
    pub(crate) async fn start() -> Bench {
        Bench::with(|_| ()).await
    }

    /// A gate with other settings than the usual ones.
    pub(crate) async fn with(change: impl FnOnce(&mut GateSettings)) -> Bench {
        let mut settings = GateSettings::new("127.0.0.1:0".parse().unwrap());
        change(&mut settings);
        let (live, receiver) = watch::channel(LiveBoots::default());
        live.send_replace(Arc::new([(SERIAL, BOOT), (OTHER, BOOT)].into()));
        let gate = Gate::start(settings, site(), Arc::new(Words), receiver).await.unwrap();
        Bench { gate, live }
    }

    pub(crate) fn port(&self) -> u16 {
        self.gate.local_addr().port()
    }

    /// A TCP connection on which nothing was said yet.
    pub(crate) async fn knock(&self) -> Raw {
        Raw::knock(self.gate.local_addr()).await
    }

    /// A client that has sent `connect` and got this return code.
    pub(crate) async fn answered(&self, connect: &Connect) -> (Raw, u8) {
        introduced(self.knock().await, connect).await
    }

    /// A client that is let in.
    pub(crate) async fn client(&self, connect: &Connect) -> Raw {
        let (raw, code) = self.answered(connect).await;
        assert_eq!(code, 0, "{connect:?}");
        raw
    }

    pub(crate) async fn coordinator(&self) -> Raw {
        self.client(&coordinator()).await
    }

    /// A coordinator that hears everything at the site, by the time this returns.
    pub(crate) async fn listener(&self) -> Raw {
        let mut raw = self.coordinator().await;
        assert_eq!(raw.subscribe(&[(&site().everything(), 0)]).await, [0]);
        raw
    }

    pub(crate) async fn agent(&self) -> Raw {
        self.client(&agent()).await
    }

    pub(crate) async fn monitor(&self) -> Raw {
        self.client(&monitor()).await
    }
}

/// A connection on which `connect` was sent, and the return code that came.
pub(crate) async fn introduced(mut raw: Raw, connect: &Connect) -> (Raw, u8) {
    raw.send(&connect.bytes()).await;
    let (kind, body) = raw.packet().await.expect("no CONNACK");
    assert_eq!((kind, body[0]), (0x20, 0), "a CONNACK without a session");
    (raw, body[1])
}

pub(crate) fn site() -> Site {
    Site::new("main").unwrap()
}

pub(crate) fn topic(topic: &Topic) -> String {
    site().render(topic)
}

pub(crate) fn status(name: &str) -> String {
    topic(&Topic::Status(name.into()))
}

pub(crate) fn coordinator() -> Connect {
    Connect::new("coordinator", "coordinator", PASSWORD)
}

pub(crate) fn monitor() -> Connect {
    Connect::new("mosq-Xyz0123456789", "alice", PASSWORD)
}

pub(crate) fn agent() -> Connect {
    Connect::new(&client_id(SERIAL), &SERIAL.to_string(), &BOOT.to_string())
}

/// An agent that leaves "lost" on its link topic as its will.
pub(crate) fn agent_with_will() -> Connect {
    agent().will(&topic(&Topic::Link(SERIAL)), b"lost", 1, false)
}

#[expect(clippy::disallowed_methods, reason = "Debian's MQTT clients and network tools are programs")]
pub(crate) fn program(name: &str) -> Command {
    Command::new(name)
}

/// Runs one of Debian's MQTT clients to its end; whether it succeeded, and what it printed.
pub(crate) async fn mosquitto(
    bench: &Bench,
    name: &'static str,
    user: &str,
    arguments: &[&str],
) -> (bool, String) {
    let mut command = program(name);
    command.args(["-h", "127.0.0.1", "-p", &bench.port().to_string(), "-u", user, "-P", PASSWORD]);
    command.args(arguments).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = within(name, output).await.unwrap();
    let output = output.unwrap_or_else(|error| {
        panic!("{name} does not start ({error}): these tests need Debian's package mosquitto-clients")
    });
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
