//! The server over loopback: whole files, real boards' habits, loss, many at once, and floods.

mod client;

use super::{Server, Table};
use crate::clock;
use crate::credentials::Credentials;
use crate::domain::boot_evidence::TokenHolder;
use crate::machine::event::Asked;
use crate::netboot::alarm::Wanted;
use crate::netboot::boot_root::Whom;
use crate::netboot::desk::{Desk, House, Known};
use crate::netboot::question::Whose;
use crate::netboot::view::View;
use crate::netboot::{BootRoots, CardFiles, CommandLines, Strangers};
use client::Client;
use piseduce_protocol::id::{BootNumber, Serial};
use piseduce_protocol::seal::SiteKey;
use piseduce_protocol::topic::Site;
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const BOARDS: u8 = 200;

/// Boards are at 127.0.0.1 and so on, their serial numbers end with the last number of it.
struct Boards(Arc<Mutex<Vec<Asked>>>);

fn mac(number: u8) -> String {
    format!("dc:a6:32:00:00:{number:02x}")
}

fn table() -> HashMap<IpAddr, String> {
    (1..=BOARDS).map(|number| (Ipv4Addr::new(127, 0, 0, number).into(), mac(number))).collect()
}

impl House for Boards {
    fn nodes(&self, whose: &Whose) -> Vec<Known> {
        let known = |number: u8| Known {
            name: format!("pi-{number}"),
            model: "Raspberry Pi 4 Model B".into(),
            serial: Serial(u64::from(number)),
            mac: mac(number),
            boot: BootNumber(1),
            view: View::Hold,
            card: None,
        };
        let all = (1..=BOARDS).map(known);
        all.filter(|known| match whose {
            Whose::Serial(end) => known.serial.short() == *end,
            Whose::Mac(mac) => known.mac == *mac,
            Whose::Asker => false,
        })
        .collect()
    }
    fn asked(&self, _: Serial, asked: Asked) {
        self.0.lock().unwrap().push(asked);
    }
    fn token_holder(&self, _: Serial) -> Option<TokenHolder> {
        None
    }
    fn token_asked(&self, _: Serial, _: TokenHolder) {}
    fn refused(&self, _: &Known, _: IpAddr, _: Option<&str>, _: Wanted) {}
}

struct Bench {
    server: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    files: HashMap<&'static str, Vec<u8>>,
    _scratch: tempfile::TempDir,
}

impl Bench {
    /// A server at `address`, with a boot root. It ends with the runtime.
    fn at(address: &str, table: Table) -> Bench {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path().join("one/files");
        fs::create_dir_all(&place).unwrap();
        let content = |bytes: u32| (0..bytes).map(|number| (number % 251) as u8).collect::<Vec<u8>>();
        let files = HashMap::from([
            ("bootcode.bin", content(52_000)),
            ("start.elf", content(300_000)),
            ("config.txt", content(100)),
            ("kernel8.img", content(2_000_000)),
            ("empty", vec![]),
        ]);
        let mut listed = serde_json::Map::new();
        for (name, bytes) in &files {
            fs::write(place.join(name), bytes).unwrap();
            listed.insert((*name).into(), serde_json::json!({ "bytes": 1, "blake3": "" }));
        }
        let description = serde_json::json!({
            "schema": 1, "version": "one", "kind": "ram", "command_line": "panic=10", "packages": {}, "agent": "1",
            "files": listed,
        });
        fs::write(scratch.path().join("one/boot-root.json"), description.to_string()).unwrap();
        let roots = BootRoots::at(scratch.path().into(), None);
        roots.choose("one", &Whom::All).unwrap();
        let lines = CommandLines {
            site: Site::new("main").unwrap(),
            broker: String::new(),
            head: String::new(),
            agents: None,
            credentials: Credentials::new(SiteKey([7; 32])),
        };
        let asked = Arc::new(Mutex::new(vec![]));
        let cards = CardFiles::at(scratch.path().join("card-files"));
        let desk = Desk::new(Boards(asked.clone()), roots, cards, Strangers::default(), Arc::new(lines));
        let server = Server::bind(&[address.parse().unwrap()], desk, table).unwrap();
        let address = server.addresses().next().unwrap();
        tokio::spawn(server.serve());
        Bench { server: address, asked, files, _scratch: scratch }
    }

    fn kernels_sent(&self) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| **asked == Asked::Kernel).count()
    }
}

/// Runs what blocks beside the server.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_whole_with_every_option_and_everything_else_is_refused_at_once() {
    let bench = Bench::at("127.0.0.1:0", table);
    let (server, files) = (bench.server, bench.files.clone());
    beside(move || {
        let mut client = Client::new(1, server);
        for options in [
            &[][..],
            &["tsize", "0", "blksize", "1024"],
            &["tsize", "0", "blksize", "1468"],
            &["blksize", "65464"],
            &["blksize", "8", "windowsize", "64"],
            &["blksize", "1428", "windowsize", "16", "timeout", "1"],
            &["blksize", "0", "windowsize", "0", "timeout", "0", "nonsense", ""],
        ] {
            for name in ["start.elf", "empty", "config.txt"] {
                let fetched = client.fetch(&format!("00000001/{name}"), options);
                assert!(fetched.as_ref() == Ok(&files[name]), "{name} {options:?}");
            }
        }
        assert_eq!(
            client.fetch("00000001/kernel8.img", &["blksize", "1468"]).as_ref(),
            Ok(&files["kernel8.img"])
        );
        assert_eq!(client.fetch("00000001/cmdline.txt", &[]), Ok(b"panic=10\n".to_vec()));
        let began = clock::now();
        assert_eq!(client.fetch("00000001/start4.elf", &[]), Err(1));
        assert_eq!(client.fetch("00000002/kernel8.img", &[]), Err(1), "another board's");
        assert_eq!(client.fetch("00000001/../one/boot-root.json", &[]), Err(2));
        assert_eq!(client.fetch("00000001/start.elf", &["blksize", "512", "blksize", "512"]), Err(8));
        client.socket.send_to(b"\0\x02x\0octet\0", server).unwrap();
        assert_eq!(client.receive(&mut None).unwrap().0[..4], [0, 5, 0, 2]);
        client.socket.send_to(b"\0\x01x\0netascii\0", server).unwrap();
        assert_eq!(client.receive(&mut None).unwrap().0[..4], [0, 5, 0, 4]);
        assert!(clock::now().since(began) < Duration::from_secs(1));
    })
    .await;
    assert_eq!(bench.kernels_sent(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_asks_for_one_thing_after_the_other_and_gets_the_newest() {
    let bench = Bench::at("127.0.0.1:0", table);
    let (server, files) = (bench.server, bench.files.clone());
    beside(move || {
        let mut client = Client::new(1, server);
        let begin = |client: &mut Client, name: &str| {
            client.ask(name, &["tsize", "0"]);
            client.receive(&mut None).expect("an answer at once")
        };
        // As a Pi 3 does: the probe is ended with an error, or the board is reset in the middle of it.
        let (_, from) = begin(&mut client, "00000001/start.elf");
        client.send(b"\0\x05\0\0Early terminate\0", from);
        let (options, other) = begin(&mut client, "00000001/start.elf");
        assert!(options[1] == 6 && other != from, "another transfer");
        assert!(client.fetch("bootcode.bin", &[]).as_ref() == Ok(&files["bootcode.bin"]));
        // The last acknowledgement is lost, and the next stage asks from the same port.
        client.ask("00000001/config.txt", &[]);
        assert_eq!(client.receive(&mut None).unwrap().0[4..], files["config.txt"]);
        assert!(client.fetch("00000001/start.elf", &["tsize", "0"]).as_ref() == Ok(&files["start.elf"]));
        // The same question again, before anything was acknowledged, is answered from the same port.
        let (_, first) = begin(&mut client, "00000001/start.elf");
        let (_, again) = begin(&mut client, "00000001/start.elf");
        assert_eq!(first, again);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_whole_over_a_bad_line() {
    let bench = Bench::at("127.0.0.1:0", table);
    let (server, files) = (bench.server, bench.files.clone());
    let fetching = (1..=8u8).map(|number| {
        let files = files.clone();
        beside(move || {
            let mut client = Client::new(number, server);
            (client.loss, client.random) = (2, u64::from(number));
            client.socket.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
            let options: &[&str] = match number % 2 {
                0 => &["blksize", "1468", "tsize", "0"],
                _ => &["blksize", "1468", "windowsize", "8"],
            };
            for name in ["bootcode.bin", "start.elf"] {
                let fetched = client.fetch(&format!("{number:08x}/{name}"), options);
                assert!(fetched.as_ref() == Ok(&files[name]), "{number} {name}");
            }
        })
    });
    futures_util::future::join_all(fetching).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_boards_boot_at_once() {
    let bench = Bench::at("127.0.0.1:0", table);
    let (server, files) = (bench.server, bench.files.clone());
    let fetching = (1..=BOARDS).map(|number| {
        let files = files.clone();
        beside(move || {
            let mut client = Client::new(number, server);
            client.socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            for name in ["config.txt", "start.elf"] {
                let fetched = client.fetch(&format!("{number:08x}/{name}"), &["blksize", "1468"]);
                assert!(fetched.as_ref() == Ok(&files[name]), "{number} {name}");
            }
            assert_eq!(client.fetch(&format!("{number:08x}/pieeprom.sig"), &[]), Err(1));
        })
    });
    futures_util::future::join_all(fetching).await;
}

/// How long answers to a board took while `flood` sent five packets a millisecond.
async fn latencies(server: SocketAddr, mut flood: impl FnMut(usize) + Send + 'static) -> Vec<Duration> {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let flooding = std::thread::spawn(move || {
        let mut sent = 0;
        while stopped.recv_timeout(Duration::from_millis(1))
            == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            (sent..sent + 5).for_each(&mut flood);
            sent += 5;
        }
        sent
    });
    let (mut taken, lasted) = beside(move || {
        let ask = |_| {
            let mut client = Client::new(1, server);
            let began = clock::now();
            client.fetch("00000001/config.txt", &["tsize", "0"]).unwrap();
            clock::now().since(began)
        };
        let began = clock::now();
        ((0..3000).map(ask).collect::<Vec<_>>(), clock::now().since(began))
    })
    .await;
    drop(stop);
    let sent = flooding.join().unwrap();
    taken.sort();
    println!(
        "{sent} packets in {lasted:?}: median {:?}, worst {:?}",
        taken[taken.len() / 2],
        taken[taken.len() - 1]
    );
    taken
}

fn assert_honest(taken: &[Duration]) {
    let (median, worst) = (taken[taken.len() / 2], taken[taken.len() - 1]);
    assert!(median <= Duration::from_millis(20) && worst <= Duration::from_secs(1), "{median:?}, {worst:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_from_addresses_that_nobody_has_hold_up_no_board() {
    let bench = Bench::at("0.0.0.0:0", table);
    let server: SocketAddr = ([127, 0, 0, 1], bench.server.port()).into();
    let sockets: Vec<UdpSocket> =
        (0..250).map(|number| UdpSocket::bind((Ipv4Addr::new(127, 7, 0, number), 0)).unwrap()).collect();
    let taken = latencies(server, move |turn| {
        // A full queue is no failure here.
        let _ = sockets[turn % sockets.len()].send_to(b"\0\x01aabbccdd/start4.elf\0octet\0", server);
    })
    .await;
    assert_honest(&taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_that_nobody_acknowledges_hold_up_no_board() {
    let bench = Bench::at("127.0.0.1:0", table);
    let server = bench.server;
    let sockets: Vec<UdpSocket> =
        (0..1000).map(|_| UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap()).collect();
    let taken = latencies(server, move |turn| {
        let question =
            b"\0\x0100000002/kernel8.img\0octet\0timeout\x00255\0windowsize\x0065535\0blksize\x001468\0";
        let _ = sockets[turn % sockets.len()].send_to(question, server);
    })
    .await;
    assert_honest(&taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_leave_from_the_address_that_was_asked() {
    let bench = Bench::at("0.0.0.0:0", table);
    let port = bench.server.port();
    beside(move || {
        for asked in [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 3, 2, 1)] {
            let mut client = Client::new(1, (asked, port).into());
            for name in ["00000001/config.txt", "00000001/missing"] {
                client.ask(name, &[]);
                let (_, from) = client.receive(&mut None).unwrap();
                assert_eq!(from.ip(), IpAddr::V4(asked));
                assert_ne!(from.port(), port, "each transfer has a port of its own");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_to_the_server_it_goes_on() {
    let bench = Bench::at("127.0.0.1:0", table);
    let (server, config) = (bench.server, bench.files["config.txt"].clone());
    beside(move || {
        let mut client = Client::new(1, server);
        let mut random = 88_172_645_463_325_252u64;
        for _ in 0..3000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let bytes: Vec<u8> = (0..random % 600).map(|at| (random >> (at % 57)) as u8).collect();
            let head: &[u8] = if random.is_multiple_of(2) { b"\0\x01" } else { b"" };
            client.socket.send_to(&[head, &bytes].concat(), server).unwrap();
        }
        let mut fresh = Client::new(1, server);
        assert_eq!(fresh.fetch("00000001/config.txt", &[]), Ok(config));
        client.send(&[b"\0\x01", &[b'x'; 10_000][..], b"\0octet\0"].concat(), server);
        assert_eq!(fresh.fetch("00000001/x", &[]), Err(1));
    })
    .await;
}
