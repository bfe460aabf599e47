//! The coordinator's TFTP server as four clients know the protocol, and beside whoever wants it to stop: on a network of its own,
//! whose attackers stay in it.

use piseduce_tests::bench_boot_root;
use piseduce_tests::board::BootSource;
use piseduce_tests::lab::Lab;
use piseduce_tests::namespace::Namespace;
use piseduce_tests::rack_network::{BRIDGE, HEAD, RackNetwork};
use piseduce_tests::wait::{seconds, wait_for};
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

const MAC: &str = "dc:a6:32:00:00:01";
const BOARD: &str = "10.77.0.11";

/// A client of somebody else's: fetches `name` from `head` into `file`.
type Fetch = fn(&mut Command, &str, &str, &str);

const CLIENTS: [(&str, Fetch); 6] = [
    ("tftp", |client, head, name, file| {
        client.args(["-m", "binary", head, "-c", "get", name, file]);
    }),
    ("curl", |client, head, name, file| {
        let url = format!("tftp://{head}/{name}");
        client.args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "20",
            "--tftp-blksize",
            "1468",
            "-o",
            file,
            &url,
        ]);
    }),
    ("curl", |client, head, name, file| {
        let url = format!("tftp://{head}/{name}");
        client.args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "20",
            "--tftp-no-options",
            "-o",
            file,
            &url,
        ]);
    }),
    ("atftp", |client, head, name, file| {
        client.args([
            "--option",
            "blksize 1024",
            "--option",
            "tsize 0",
            "--get",
            "-r",
            name,
            "-l",
            file,
            head,
        ]);
    }),
    ("busybox", |client, head, name, file| {
        client.args(["tftp", "-g", "-r", name, "-l", file, head]);
    }),
    ("busybox", |client, head, name, file| {
        client.args(["tftp", "-b", "65464", "-g", "-r", name, "-l", file, head]);
    }),
];

/// A board that is plugged in, with its address.
fn plug(network: &RackNetwork) -> &Namespace {
    let board = &network.boards[0];
    board.ip("link set eth0 up").unwrap();
    board.ip(&format!("address add {BOARD}/24 dev eth0")).unwrap();
    board
}

/// A lab whose only node is that board, with a boot root that nobody could boot; and how its files' names begin.
fn lab(network: &Arc<RackNetwork>) -> (Lab, String) {
    let lab = Lab::on(network, "");
    lab.rack.connect(&BootSource::Nobody);
    assert_eq!(lab.rack.nodes[0].mac, MAC);
    let files = [("start4.elf", 3000), ("config.txt", 100), ("kernel8.img", 300_000)];
    let files = files.map(|(name, bytes)| (name, vec![7; bytes]));
    bench_boot_root::add(&lab.coordinator.data(), "one", "panic=10", &files).unwrap();
    let prefix = lab.rack.nodes[0].serial[8..].to_owned();
    (lab, prefix)
}

#[test]
fn clients_of_four_authors_get_whole_files_and_are_told_what_is_not_there() {
    let network = Arc::new(RackNetwork::new(&[MAC.to_owned()]).unwrap());
    let board = plug(&network);
    network.head.within(|| {
        let (lab, prefix) = lab(&network);
        let head = HEAD.to_string();
        for (number, (program, fetch)) in CLIENTS.iter().enumerate() {
            let get = |name: &str| {
                let file = lab.directory.path().join(format!("fetched-{number}"));
                let _ = fs::remove_file(&file);
                let mut client = board.command(program);
                fetch(&mut client, &head, &format!("{prefix}/{name}"), &file.to_string_lossy());
                let output = client.output().unwrap();
                (fs::read(&file).unwrap_or_default(), String::from_utf8_lossy(&output.stderr).into_owned())
            };
            let (content, said) = get("kernel8.img");
            assert!(content == [7; 300_000], "{program} ({number}): {} bytes, {said}", content.len());
            let (content, said) = get("start.elf");
            assert!(content.is_empty(), "{program} ({number}): {said}");
        }
    });
}

/// How long the coordinator's answers to a board took, in seconds, the longest last.
fn latencies(name: &str, count: usize) -> Vec<f64> {
    let question = [b"\0\x01", name.as_bytes(), b"\0octet\0tsize\x000\0"].concat();
    let mut buffer = [0; 600];
    let mut taken: Vec<f64> = (0..count)
        .map(|_| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let began = seconds();
            socket.send_to(&question, (HEAD, 69)).unwrap();
            let answered = socket.recv_from(&mut buffer);
            let took = if answered.is_ok() { seconds() - began } else { 99.0 };
            // As a firmware that looked for a file.
            if let Ok((_, from)) = answered {
                socket.send_to(b"\0\x05\0\0Early terminate\0", from).unwrap();
            }
            took
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    taken
}

/// How many descriptors the coordinator has open.
fn descriptors(lab: &Lab) -> usize {
    fs::read_dir(format!("/proc/{}/fd", lab.coordinator.process())).unwrap().count()
}

/// What `answers` says for 6 s while two questions a millisecond are sent from `sockets`; how many that were; and what is `counted`
/// in the end of it.
fn flooded(
    question: &[u8],
    sockets: &[UdpSocket],
    answers: impl Fn() -> Vec<f64>,
    counted: impl Fn() -> usize,
) -> (Vec<f64>, usize, usize) {
    let (stop, stopped) = channel::<()>();
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let stopped = stopped;
            let mut sent = 0;
            while stopped.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
                for socket in [sent, sent + 1] {
                    // Where the network is full it gets lost, as it may.
                    let _ = sockets[socket % sockets.len()].send_to(question, (HEAD, 69));
                }
                sent += 2;
            }
            sent
        });
        let until = seconds() + 6.0;
        let mut taken = Vec::new();
        while seconds() < until {
            taken.extend(answers());
        }
        let count = counted();
        drop(stop);
        (taken, flooding.join().unwrap(), count)
    })
}

#[test]
fn floods_from_addresses_that_nobody_has_and_of_unfinished_transfers_hold_up_no_board() {
    let network = Arc::new(RackNetwork::new(&[MAC.to_owned()]).unwrap());
    let board = plug(&network);
    let attacker = network.stranger("02:00:00:00:00:66", [10, 77, 0, 99].into()).unwrap();
    let link = network.head.command("ip").args(["-o", "link", "show", BRIDGE]).output().unwrap();
    let link = String::from_utf8(link.stdout).unwrap();
    let head_mac =
        link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned();
    // It has 150 addresses and answers for none of them.
    attacker.within(|| fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "8").unwrap());
    let addresses: Vec<Ipv4Addr> = (100..250).map(|last| Ipv4Addr::new(10, 77, 0, last)).collect();
    for address in &addresses {
        attacker.ip(&format!("address add {address}/24 dev eth0")).unwrap();
    }
    attacker.ip(&format!("neighbour replace {HEAD} lladdr {head_mac} dev eth0 nud permanent")).unwrap();
    network.head.within(|| {
        let (lab, prefix) = lab(&network);
        let name = format!("{prefix}/config.txt");
        let ask = |count| board.within(|| latencies(&name, count));
        wait_for("an answer", 30.0, || ask(1)[0], |took| *took < 1.0);
        let idle = descriptors(&lab);
        let beside = |what: &str, question: &[u8], sockets: &[UdpSocket]| {
            let (mut taken, sent, most) = flooded(question, sockets, || ask(20), || descriptors(&lab));
            taken.sort_by(f64::total_cmp);
            let (median, worst) = (taken[taken.len() / 2], taken[taken.len() - 1]);
            println!("{what}: {sent} questions, {} answers, median {median:.4} s, worst {worst:.4} s, {most} descriptors", taken.len());
            assert!(median <= 0.02 && worst <= 1.0, "{what}: median {median} s, worst {worst} s");
            most
        };
        let bind = |address: &Ipv4Addr| UdpSocket::bind((*address, 0)).unwrap();
        let unknown: Vec<UdpSocket> = attacker.within(|| addresses.iter().map(bind).collect());
        beside("addresses that nobody has", b"\0\x01aabbccdd/start4.elf\0octet\0", &unknown);
        let ports: Vec<UdpSocket> = board.within(|| (0..800).map(|_| UdpSocket::bind((BOARD, 0)).unwrap()).collect());
        let question = format!("\0\x01{prefix}/kernel8.img\0octet\0timeout\x00255\0windowsize\065535\0blksize\065464\0");
        let most = beside("unfinished transfers", question.as_bytes(), &ports);
        assert!(most < idle + 300, "{idle} descriptors before, {most} beside the transfers");
        let few = || descriptors(&lab) < idle + 20;
        wait_for("the transfers to be left", 20.0, few, |few| *few);
    });
}
