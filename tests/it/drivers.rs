//! Switches of other kinds than a program: a person who switches by hand, and the examples of the notes.

use piseduce_protocol::state::State;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::process::{command, workspace};
use piseduce_tests::rack;
use piseduce_tests::wait::wait_for;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The lab's inventory, but its switch is a person.
fn by_hand(lab: &Lab, more: &str) -> String {
    let inventory = lab.rack.inventory();
    let lines = inventory.lines().map(|line| match line.starts_with("driver.command") {
        true => format!("driver = \"manual\"\n{more}"),
        false => format!("{line}\n"),
    });
    lines.collect()
}

/// Waits until the node of a lab waits for words that contain `expected`.
fn wait_for_words(lab: &Lab, expected: &str) -> String {
    let words = || lab.status(0).and_then(|status| status.waiting).unwrap_or_default();
    wait_for(expected, 60.0, words, |words| words.contains(expected))
}

/// The person goes to the rack, switches, and says so.
fn switch_by_hand(lab: &Lab, action: &str) -> String {
    rack::ask(&lab.directory.path().join("rack/switch.sock"), action, "1").unwrap();
    lab.coordinator.cli(ADMIN, &["switch", "done", "bench", "1"]).unwrap()
}

#[test]
fn a_deployment_waits_for_the_person_who_switches_by_hand() {
    let lab = Lab::new(1);
    let import = |more: &str| {
        let inventory = lab.file("by-hand.toml", &by_hand(&lab, more));
        lab.coordinator.cli(ADMIN, &["node", "import", &inventory]).unwrap();
    };
    import("");
    let refused = lab.coordinator.cli(ADMIN, &["switch", "done", "bench", "1"]).unwrap_err().to_string();
    assert!(refused.contains("nobody was asked to switch port 1"), "{refused}");
    lab.deploy(&[]);
    let words = wait_for_words(&lab, "off by hand");
    assert!(words.contains("switch port 1 of bench off") && words.contains("`piseduce switch done bench 1`"));
    let refused = lab.coordinator.cli(USER, &["switch", "done", "bench", "1"]).unwrap_err().to_string();
    assert!(refused.contains("may not"), "{refused}");
    let said = switch_by_hand(&lab, "off");
    assert!(said.contains("port 1 of bench is off"), "{said}");
    wait_for_words(&lab, "on by hand");
    // What was asked is asked again of a switch whose settings changed meanwhile.
    import("budget_watts = 100\n");
    switch_by_hand(&lab, "on");
    lab.wait_for(0, State::Deployed, 60.0);
}

/// A switch with a web interface only, and its faults.
struct WebSwitch {
    password: &'static str,
    /// The session that is open.
    session: usize,
    /// So many pages are answered as if the session had ended.
    forgets: usize,
    on: bool,
    /// Answered to everything, if it is any.
    status: Option<u16>,
}

impl WebSwitch {
    fn answer(&mut self, path: &str, cookie: &str, form: &str) -> (u16, String, String) {
        let login = "<form method=\"post\" action=\"/login.cgi\">".to_owned();
        if let Some(status) = self.status {
            return (status, String::new(), String::new());
        }
        if path == "/login.cgi" {
            if form != format!("username=admin&password={}", self.password) {
                return (200, String::new(), login);
            }
            self.session += 1;
            return (200, format!("Set-Cookie: sid={}; Path=/\r\n", self.session), "welcome".into());
        }
        if cookie != format!("sid={}", self.session) || self.forgets > 0 {
            self.forgets = self.forgets.saturating_sub(1);
            return (200, String::new(), login);
        }
        match (path, form) {
            ("/poe.cgi", "port=7&admin=1") => self.on = true,
            ("/poe.cgi", "port=7&admin=0") => self.on = false,
            ("/poe.html", "") => {}
            other => panic!("{other:?}"),
        }
        let row = if self.on { "Enabled</td>\n<td>Delivering" } else { "Disabled</td>\n<td>Off" };
        (
            200,
            String::new(),
            format!("<tr><td>17</td><td>Enabled</td><td>Off</td></tr><tr><td>7</td><td>{row}</td></tr>"),
        )
    }

    /// Answers one request.
    fn serve(&mut self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut cookie, mut length) = (String::new(), 0);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            match header.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("cookie") => cookie = value.into(),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap();
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut form = vec![0; length];
        reader.read_exact(&mut form)?;
        let (status, headers, page) = self.answer(&path, &cookie, &String::from_utf8_lossy(&form));
        let length = page.len();
        write!(stream, "HTTP/1.0 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{page}")
    }
}

/// Runs the script of the notes; its exit code, and what it said.
fn poe_web(directory: &Path, url: &str, words: &[&str]) -> (Option<i32>, String) {
    let page = fs::read_to_string(workspace().join("firmware-notes/poe-web.md")).unwrap();
    let script = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let (program, settings) = (directory.join("poe-web"), directory.join("poe-web.toml"));
    fs::write(&program, script).unwrap();
    let text = page.split("```toml\n").nth(2).unwrap().split("```").next().unwrap();
    fs::write(&settings, text.replace("http://10.0.0.9", url)).unwrap();
    fs::set_permissions(&settings, fs::Permissions::from_mode(0o600)).unwrap();
    let output = command("python3").arg(program).arg(settings).args(words).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).trim().to_owned())
}

#[test]
fn the_script_for_a_switch_with_a_web_interface_does_what_the_notes_say() {
    let switch = WebSwitch { password: "secret", session: 0, forgets: 0, on: true, status: None };
    let switch = Arc::new(Mutex::new(switch));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = switch.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A client that is gone is no matter of the switch.
            let _ = served.lock().unwrap().serve(stream);
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| poe_web(directory.path(), &url, words);
    assert_eq!(run(&["status", "7"]), (Some(0), "on delivering".into()));
    assert_eq!(run(&["off", "7"]), (Some(0), String::new()));
    assert_eq!(run(&["status", "7"]), (Some(0), "off idle".into()));
    assert_eq!(run(&["on", "7"]), (Some(0), String::new()));
    assert!(switch.lock().unwrap().on);
    assert_eq!(run(&["status", "99"]), (Some(1), "there is no port 99".into()));
    switch.lock().unwrap().forgets = 1;
    assert_eq!(run(&["status", "7"]), (Some(0), "on delivering".into()));
    switch.lock().unwrap().forgets = 2;
    assert_eq!(run(&["status", "7"]), (Some(75), "the session ends as soon as it is open".into()));
    switch.lock().unwrap().status = Some(503);
    assert_eq!(run(&["off", "7"]), (Some(75), "/login.cgi: status 503".into()));
    switch.lock().unwrap().status = None;
    switch.lock().unwrap().password = "another";
    assert_eq!(run(&["off", "7"]), (Some(1), "the switch refuses the user or the password".into()));
    let (code, said) = poe_web(directory.path(), "http://127.0.0.1:1", &["off", "7"]);
    assert_eq!(code, Some(75), "{said}");
}
