//! Listeners and broker: whether our coordinator has them, another program does or nobody, and whether others
//! reach them at the addresses that they are told.

use super::Check;
use crate::api::HealthView;
use crate::config::{Accounts, Broker, Config, External, Listener};
use crate::data_directory::{ADDRESSES, Addresses, DataDirectory, DataError, LOCK, STORE};
use std::io::ErrorKind;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket,
};
use std::time::Duration;

/// How long an answer on the same machine or the same network may take.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// A coordinator that has just started may still be connecting.
const LINK_YOUNG: Duration = Duration::from_secs(30);

/// What is known of the coordinator of this directory.
enum Running {
    No,
    /// It has the directory, and does not answer.
    Mute,
    Yes(HealthView, Addresses),
}

/// Whether our coordinator runs, and what was found.
pub(in crate::operate) fn examine(config: &Config) -> (bool, Vec<Check>) {
    let running = running(config);
    let mut checks = vec![coordinator(&running, config)];
    checks.extend(in_the_clear(&config.people));
    let mut listeners = vec![("people", "people", &config.people), ("nodes", "nodes", &config.nodes)];
    match &config.broker {
        Broker::Embedded(listener) => listeners.push(("broker", "broker", listener)),
        Broker::External(external) => checks.push(external_broker(external)),
    }
    for (name, setting, listener) in listeners {
        let found = match &running {
            Running::Yes(_, addresses) => held(name, setting, listener, addresses),
            Running::No => free(name, setting, listener),
            Running::Mute => continue,
        };
        let is_listening = matches!(running, Running::Yes(..));
        let others = (name != "people").then(|| advertised(name, setting, listener, is_listening)).flatten();
        checks.push(others.unwrap_or(found));
    }
    if let Running::Yes(health, _) = &running {
        checks.push(broker_link(health));
    }
    (!matches!(running, Running::No), checks)
}

/// A broker that is not ours: whether there is one where the settings say, and whether we know our accounts there.
fn external_broker(external: &External) -> Check {
    let name = "broker";
    if let Err(error) = Accounts::read(&external.accounts) {
        return Check::fail(name, error.to_string(), "README, \"Broker\", says what stands in it");
    }
    let at = format!("{}:{}", external.host, external.tcp_port);
    let addresses: Vec<SocketAddr> = at.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    if addresses.is_empty() {
        return Check::fail(name, format!("{} resolves to no address", external.host), "change broker.url");
    }
    let answers = |address: &SocketAddr| TcpStream::connect_timeout(address, ANSWER_MAX).is_ok();
    match addresses.iter().chain([&external.advertised]).find(|address| !answers(address)) {
        None => Check::ok(name, format!("{at}, another program's")),
        Some(silent) => {
            let advice = "start the broker there, or change broker.url and broker.advertised_address";
            Check::fail(name, format!("nobody answers at {silent}"), advice)
        }
    }
}

fn broker_link(health: &HealthView) -> Check {
    let (name, advice) = ("broker_link", "no node is heard and none is blamed meanwhile; its log says why");
    let up = Duration::from_secs(health.uptime_seconds);
    match health.broker_link {
        true => Check::ok(name, "the coordinator is connected to its broker"),
        false if up < LINK_YOUNG => {
            Check::warn(name, "the coordinator is not connected to its broker yet", advice)
        }
        false => Check::fail(name, "the coordinator is not connected to its broker", advice),
    }
}

/// Whether tokens of people cross a network that others may read.
fn in_the_clear(people: &Listener) -> Option<Check> {
    let listen = people.listen;
    (!listen.ip().is_loopback()).then(|| {
        Check::warn(
            "tokens",
            format!("tokens travel in the clear to {listen}: who reads that network has them"),
            "set people.listen to 127.0.0.1 and reach it through SSH or a proxy with TLS",
        )
    })
}

fn coordinator(running: &Running, config: &Config) -> Check {
    let (name, own) = ("coordinator", env!("CARGO_PKG_VERSION"));
    const START: &str = "systemctl start piseduce, or `piseduce serve`";
    match running {
        // Before the first start there is nothing that it would have to serve.
        Running::No if !config.data_directory.join(STORE).exists() => {
            Check::warn(name, "was never started", START)
        }
        Running::No => Check::fail(name, "does not run", START),
        Running::Mute => Check::fail(
            name,
            "has its directory locked, but does not answer",
            "it is just starting or ending, or it hangs: journalctl -u piseduce",
        ),
        Running::Yes(health, _) if health.version != own => Check::warn(
            name,
            format!("version {} runs, and this program is version {own}", health.version),
            "systemctl restart piseduce",
        ),
        Running::Yes(health, _) => {
            let up = humantime::format_duration(Duration::from_secs(health.uptime_seconds));
            Check::ok(name, format!("version {own} has been running for {up}"))
        }
    }
}

fn running(config: &Config) -> Running {
    let directory = &config.data_directory;
    let addresses = std::fs::read(directory.join(ADDRESSES)).ok();
    let addresses = addresses.and_then(|json| serde_json::from_slice::<Addresses>(&json).ok());
    if let Some(addresses) = addresses
        && let places = [on_this_head(config.people.listen, addresses.people), addresses.people]
        && let Some(health) =
            places.into_iter().filter_map(ask).find(|health| health.instance == addresses.instance)
    {
        return Running::Yes(health, addresses);
    }
    // Asked last, because a coordinator that starts in this moment would find it locked.
    let lock = directory.join(LOCK).exists().then(|| DataDirectory::open(directory)?.lock());
    match lock {
        Some(Err(DataError::InUse(_))) => Running::Mute,
        _ => Running::No,
    }
}

/// Where the listener is reached without going through what others reach it by.
fn on_this_head(listen: SocketAddr, advertised: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, if listen.port() == 0 { advertised.port() } else { listen.port() })
}

/// What the coordinator says of itself; none when nobody answers, or somebody else.
fn ask(people: SocketAddr) -> Option<HealthView> {
    let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER_MAX)).proxy(None).build();
    let asked = ureq::Agent::from(config).get(format!("http://{people}/api/v1/health")).call();
    asked.ok()?.body_mut().read_json().ok()
}

/// A listener that the running coordinator has.
fn held(name: &'static str, setting: &str, listener: &Listener, addresses: &Addresses) -> Check {
    let now = match name {
        "people" => addresses.people,
        "nodes" => addresses.nodes,
        _ => addresses.broker,
    };
    let wanted = listener.advertised(now);
    match wanted == now {
        true => Check::ok(name, format!("{now}, the running coordinator has it")),
        false => Check::warn(
            name,
            format!("the running coordinator is reached at {now}, and the settings say {wanted}"),
            format!("restart it when [{setting}] was changed on purpose"),
        ),
    }
}

/// A listener that nobody should have while no coordinator runs.
fn free(name: &'static str, setting: &str, listener: &Listener) -> Check {
    let address = listener.listen;
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) => {
            let (found, advice) = match error.kind() {
                ErrorKind::AddrInUse => {
                    let port = address.port();
                    let advice =
                        format!("`ss -ltnp sport = :{port}` says which: end it or change {setting}.listen");
                    (format!("{address} is held by another program"), advice)
                }
                ErrorKind::AddrNotAvailable => {
                    let advice = format!("`ip address` lists what there is; change {setting}.listen");
                    (format!("no interface of this head has the address {}", address.ip()), advice)
                }
                ErrorKind::PermissionDenied => {
                    let advice =
                        "the service needs CAP_NET_BIND_SERVICE for ports below 1024; its unit gives it";
                    (format!("{address} may not be bound by this user"), advice.into())
                }
                _ => (format!("{address} cannot be bound ({error})"), format!("change {setting}.listen")),
            };
            Check::fail(name, found, advice)
        }
    }
}

/// What is wrong with the address that nodes are told.
fn advertised(name: &'static str, setting: &str, listener: &Listener, is_listening: bool) -> Option<Check> {
    let address = listener.advertised(listener.listen);
    let advice = format!("nodes are told {setting}.advertised_address: make it an address of this head");
    let is_own = UdpSocket::bind((address.ip(), 0)).is_ok();
    if !is_own && !is_listening {
        let found = format!("no interface of this head has the address {} that nodes are told", address.ip());
        return Some(Check::fail(name, found, advice));
    }
    if is_listening
        && address.port() != 0
        && let Err(error) = TcpStream::connect_timeout(&address, ANSWER_MAX)
    {
        return Some(Check::fail(name, format!("nobody answers at {address} ({error})"), advice));
    }
    if !is_own {
        let found = format!("{address} answers, but is no address of this head");
        return Some(Check::warn(name, found, "right behind an address translation only"));
    }
    let is_loopback = address.ip().is_loopback();
    is_loopback.then(|| Check::warn(name, format!("{address} is loopback, which no board reaches"), advice))
}
