//! HTTP of a real coordinator against clients that mean no good: crowds, requests that no program would send, bodies that do
//! not come, and no file descriptors left.

use piseduce_protocol::boot_files::proof;
use piseduce_protocol::id::{BootNumber, Hash};
use piseduce_protocol::path::{CONTENT_HEADER, PROOF_HEADER, boot_file};
use piseduce_protocol::seal::SiteKey;
use piseduce_protocol::state::State;
use piseduce_tests::coordinator::Coordinator;
use piseduce_tests::lab::{ADMIN, Lab};
use piseduce_tests::wait::{seconds, wait_for};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

fn coordinator(directory: &tempfile::TempDir) -> Coordinator {
    let coordinator = Coordinator::start(directory.path(), "").unwrap();
    coordinator.add_user(ADMIN, "admin").unwrap();
    coordinator
}

fn connect_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((from, 0))).unwrap();
    connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// What is answered to these bytes, all of it.
fn answer(to: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect_from([127, 0, 0, 1], to);
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end, too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn health(coordinator: &Coordinator, from: [u8; 4]) -> bool {
    let mut stream = connect_from(from, coordinator.people);
    let asked = stream.write_all(b"GET /api/v1/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

/// A request and what it gets: the listener, method and target, the status, the error's code.
const ODD: [(&str, &str, u16, &str); 24] = [
    ("people", "GET /api/v1/deployments/9223372036854775807", 404, "missing"),
    ("people", "GET /api/v1/deployments/9223372036854775808", 404, "missing"),
    ("people", "GET /api/v1/deployments/18446744073709551615", 404, "missing"),
    ("people", "GET /api/v1/deployments/18446744073709551616", 404, "missing"),
    ("people", "GET /api/v1/deployments/-1", 404, "missing"),
    ("people", "GET /api/v1/deployments/%00", 404, "missing"),
    ("people", "GET /api/v1/deployments/%ff%fe", 404, "missing"),
    ("people", "GET /api/v1/deployments/9223372036854775808/logs", 404, "missing"),
    ("people", "GET /api/v1/deployments/18446744073709551615/export", 404, "missing"),
    ("people", "GET /api/v1/deployments/1/logs?after_entry=9223372036854775808", 422, "invalid"),
    ("people", "GET /api/v1/deployments/1/logs?run=4294967296", 422, "invalid"),
    ("people", "GET /api/v1/nodes/%00", 404, "missing"),
    ("people", "GET /api/v1/nodes/%1b%5b31m", 404, "missing"),
    ("people", "GET /api/v1/nodes/%ff", 404, "missing"),
    ("people", "GET /api/v1/environments/%00", 404, "missing"),
    ("people", "GET /api/v1/nothing", 404, "missing"),
    ("people", "DELETE /api/v1/nodes", 405, "method"),
    ("nodes", "GET /", 404, "missing"),
    ("nodes", "DELETE /manifests/x", 405, "method"),
    ("nodes", "GET /chunks/%ff", 404, "missing"),
    ("nodes", "GET /bundles/9223372036854775808/1", 404, "missing"),
    ("nodes", "GET /bundles/1/4294967296", 404, "missing"),
    ("nodes", "POST /first-boot/v1/18446744073709551615/1/booted", 404, "missing"),
    ("nodes", "PUT /boot-files/v1/9223372036854775808/1/list", 404, "missing"),
];

#[test]
fn requests_that_no_program_sends_get_an_error_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = coordinator(&directory);
    let token = fs::read_to_string(coordinator.token_file(ADMIN)).unwrap();
    let ask = |listener: &str, line: &str, body: &str| {
        let to = if listener == "people" { coordinator.people } else { coordinator.nodes };
        let head = format!("host: x\r\nconnection: close\r\nauthorization: Bearer {}", token.trim());
        let length = body.len();
        answer(to, format!("{line} HTTP/1.1\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes())
    };
    let long = format!("GET /api/v1/nodes/{}", "x".repeat(8_000));
    let huge = "x".repeat(100 << 10);
    let mut cases: Vec<(&str, &str, &str, u16, &str)> =
        ODD.iter().map(|(listener, line, status, code)| (*listener, *line, "", *status, *code)).collect();
    cases.push(("people", &long, "", 404, "missing"));
    cases.push(("nodes", "POST /first-boot/v1/1/1/booted", &huge, 413, "too_large"));
    cases.push((
        "people",
        "POST /api/v1/reservations",
        "{\"nodes\":[],\"seconds\":18446744073709551616}",
        422,
        "invalid",
    ));
    cases.push((
        "people",
        "POST /api/v1/reservations",
        "{\"nodes\":[\"x\"],\"seconds\":18446744073709551615}",
        422,
        "invalid",
    ));
    for (listener, line, body, status, code) in cases {
        let answer = ask(listener, line, body);
        let told = format!("{}: {}", &line[..line.len().min(80)], &answer[..answer.len().min(600)]);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
        let (_, json) = answer.split_once("\r\n\r\n").unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|_| panic!("{told}"));
        assert_eq!(json["code"], code, "{told}");
        let message = json["message"].as_str().unwrap();
        assert!(!message.is_empty() && message.len() < 500 && !message.contains(char::is_control), "{told}");
        assert!(json["hint"].is_string(), "{told}");
    }
    let over = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000));
    for request in [b"GET /\0 HTTP/1.1\r\n\r\n".as_slice(), b"\x16\x03\x01\0\0\r\n\r\n", over.as_bytes()] {
        let answer = answer(coordinator.nodes, request);
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert!(!coordinator.logged().contains("request failed"), "{}", coordinator.logged());
}

#[test]
fn a_body_that_does_not_come_is_told_so_and_crowds_shut_nobody_out() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = coordinator(&directory);
    let mut slow = connect_from([127, 0, 0, 4], coordinator.nodes);
    slow.write_all(b"POST /first-boot/v1/1/1/booted HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n")
        .unwrap();
    let mut crowd = Vec::new();
    for listener in [coordinator.people, coordinator.nodes] {
        crowd.extend((0..1_200).map(|_| connect_from([127, 0, 0, 3], listener)));
    }
    assert!(health(&coordinator, [127, 0, 0, 1]));
    assert!(answer(coordinator.nodes, b"GET / HTTP/1.0\r\n\r\n").contains("\"code\":\"missing\""));
    coordinator.cli(ADMIN, &["node", "list"]).unwrap();
    let mut answer = String::new();
    let _ = slow.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("too_slow"), "{answer}");
}

/// Seconds of processor that the process has used.
fn processor_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

#[test]
fn without_a_file_descriptor_left_the_coordinator_waits_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = coordinator(&directory);
    let process = coordinator.process();
    let pid = Pid::from_raw(i32::try_from(process).unwrap());
    // The next descriptor would have the lowest number that is free.
    let is_open = |number: &u64| fs::symlink_metadata(format!("/proc/{process}/fd/{number}")).is_ok();
    let free = (0..).find(|number| !is_open(number)).unwrap();
    let few = Rlimit { current: Some(free), maximum: Some(20_000) };
    let before = prlimit(pid, Resource::Nofile, few).unwrap();
    let waiting: Vec<TcpStream> = (0..20).map(|_| connect_from([127, 0, 0, 5], coordinator.people)).collect();
    wait_for(
        "the trouble to be told",
        20.0,
        || coordinator.logged(),
        |log| log.contains("cannot be accepted"),
    );
    let (began, used) = (seconds(), processor_seconds(process));
    wait_for("two seconds", 10.0, || seconds() - began, |passed| *passed > 2.0);
    let used = processor_seconds(process) - used;
    assert!(used < 1.0, "{used} s of processor in two seconds of waiting");
    assert!(coordinator.logged().matches("cannot be accepted").count() < 3);
    prlimit(pid, Resource::Nofile, before).unwrap();
    drop(waiting);
    assert!(health(&coordinator, [127, 0, 0, 1]));
}

/// Bytes below a directory.
fn bytes_below(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_below(&entry.path()),
            found => found.map_or(0, |found| found.len()),
        })
        .sum()
}

/// What the connection says next.
fn status(stream: &mut TcpStream) -> String {
    let mut answer = [0; 600];
    let count = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

#[test]
fn an_upload_is_proved_before_it_is_read_and_only_one_comes_at_a_time() {
    const CONTENT: &[u8] = b"arm_64bit=1";
    let lab = Lab::new(1);
    lab.rack.set_agent(0, Path::new("/bin/sleep"));
    lab.deploy(&[]);
    lab.wait_for(0, State::NfsBootOn, 30.0);
    let (id, run) = lab.run_of(0);
    let path = boot_file(id, run, "config.txt");
    let has_address = || lab.network.boards[0].during(|| UdpSocket::bind("10.77.0.11:0").is_ok());
    wait_for("the board's address", 30.0, has_address, |up| *up);
    let stored = lab.coordinator.data().join("card-files");
    let begin = |key: &[u8; 32], bytes: u64| {
        let content = Hash::of(CONTENT);
        // From the board's own address, at which its firmware fetched the token.
        let board = &lab.network.boards[0];
        let mut stream = board.during(|| connect_from([10, 77, 0, 11], lab.coordinator.nodes));
        let proof = proof(key, &path, content, bytes);
        let head =
            format!("{PROOF_HEADER}: {proof}\r\n{CONTENT_HEADER}: {content}\r\ncontent-length: {bytes}");
        stream.write_all(format!("PUT {path} HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n").as_bytes()).unwrap();
        stream
    };
    // A stranger announces 60 MB and is refused before it sends any of them.
    let refused = status(&mut begin(&[7; 32], 60 << 20));
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    assert_eq!(bytes_below(&stored), 0);

    let site = SiteKey(fs::read(lab.coordinator.data().join("site.key")).unwrap().try_into().unwrap());
    let key = |boot| site.boot_token(lab.node(0).serial, BootNumber(boot)).keys().upload;
    let send = |boot, content: &[u8]| {
        let mut stream = begin(&key(boot), CONTENT.len() as u64);
        // Whoever is refused is not read any more.
        let _ = stream.write_all(content);
        status(&mut stream)
    };
    let sends = |boot: &u32| send(*boot, CONTENT).starts_with("HTTP/1.1 204");
    let proved = || (1..9).find(sends);
    let boot = wait_for("a boot whose key proves it", 30.0, proved, Option::is_some).expect("just accepted");
    let mut first = begin(&key(boot), CONTENT.len() as u64);
    first.write_all(&CONTENT[..4]).unwrap();
    let second =
        wait_for("the first to have begun", 10.0, || send(boot, CONTENT), |answer| !answer.contains(" 204"));
    assert!(second.starts_with("HTTP/1.1 429") && second.contains("\"busy\""), "{second}");
    first.write_all(&CONTENT[4..]).unwrap();
    assert!(status(&mut first).starts_with("HTTP/1.1 204"));
    let other = send(boot, b"arm_64bit=0");
    assert!(other.starts_with("HTTP/1.1 422") && other.contains("not what was announced"), "{other}");
    assert_eq!(bytes_below(&stored), CONTENT.len() as u64, "what was sent right is there, and nothing else");
}
