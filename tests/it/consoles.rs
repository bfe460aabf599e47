//! Serial lines: who may see what a node says on its UART, who may type there, and what is left of it when a
//! deployment fails; relay boards that are unplugged.

use piseduce_protocol::state::State;
use piseduce_tests::console::Uart;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::wait::wait_for;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Output, Stdio};

/// A lab with one node and a line to it.
fn lab_with_console(write: bool) -> (Lab, Uart) {
    let lab = Lab::new(1);
    let uart = Uart::plug_in(&lab.directory.path().join("uart")).unwrap();
    import(&lab, write);
    (lab, uart)
}

fn import(lab: &Lab, write: bool) {
    let device = lab.directory.path().join("uart");
    let console = format!("\n[node.console]\ndevice = {device:?}\nwrite = {write}\n");
    let rack = lab.file("consoles.toml", &(lab.rack.inventory() + &console));
    lab.coordinator.cli(ADMIN, &["node", "import", &rack]).unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until the console shows `text`.
fn wait_for_text(lab: &Lab, user: &str, text: &str) -> String {
    let look = || lab.coordinator.cli(user, &["console", "pi-1", "--no-follow"]).unwrap();
    wait_for("the console to show it", 20.0, look, |shown| shown.contains(text))
}

fn start(lab: &Lab, arguments: &[&str]) -> Child {
    let mut command = lab.coordinator.cli_command(USER, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What a user types, and how that ended.
fn typed(lab: &Lab, text: &str) -> Output {
    let mut typing = start(lab, &["console", "pi-1", "--write", "--no-follow"]);
    typing.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    typing.wait_with_output().unwrap()
}

#[test]
fn a_failed_deployment_keeps_the_end_of_the_console_without_its_secrets() {
    let (lab, uart) = lab_with_console(false);
    uart.say("Kernel command line: piseduce.boot=1 piseduce.tok");
    wait_for_text(&lab, ADMIN, "piseduce.tok");
    uart.say("en=5e5e5e panic=10\r\nmmc0: error -110\r\n");
    wait_for_text(&lab, ADMIN, "error -110");
    lab.deploy(&["--part-size", "900G"]);
    lab.wait_for(0, State::Failed, 60.0);
    let logs = lab.coordinator.cli(USER, &["deployment", "logs", "pi-1"]).unwrap();
    assert!(logs.contains("the end of the node's console at"), "{logs}");
    assert!(logs.contains("piseduce.token=[removed] panic=10\nmmc0: error -110\n"), "{logs}");
    let export = lab.coordinator.cli(USER, &["deployment", "export", "pi-1"]).unwrap();
    assert!(export.contains("mmc0: error -110"), "{export}");
    let log = fs::read_to_string(lab.coordinator.log()).unwrap();
    for text in [logs, export, log] {
        assert!(!text.contains("5e5e5e"), "{text}");
    }
    // The next user starts with a console of their own.
    lab.coordinator.cli(USER, &["destroy", "pi-1"]).unwrap();
    lab.wait_until_free(0, 60.0);
    assert_eq!(lab.coordinator.cli(ADMIN, &["console", "pi-1", "--no-follow"]).unwrap(), "");
    let logs = lab.coordinator.cli(USER, &["deployment", "logs", "1"]).unwrap();
    assert!(logs.contains("mmc0: error -110"), "{logs}");
}

#[test]
fn a_console_is_for_who_holds_the_node_and_is_typed_at_when_that_is_allowed() {
    let (lab, uart) = lab_with_console(false);
    let output = lab.coordinator.cli_output(USER, &["console", "pi-1"]).unwrap();
    assert_eq!(output.status.code(), Some(5), "nobody holds it: {}", said(&output));
    lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    lab.coordinator.add_user("bob", "user").unwrap();
    let output = lab.coordinator.cli_output("bob", &["console", "pi-1"]).unwrap();
    assert!(output.status.code() == Some(5) && said(&output).contains("held by ann"), "{}", said(&output));

    let mut followers = [start(&lab, &["console", "pi-1"]), start(&lab, &["console", "pi-1"])];
    let mut lines: Vec<_> =
        followers.iter_mut().map(|it| BufReader::new(it.stdout.take().unwrap()).lines()).collect();
    for line in ["first", "second"] {
        uart.say(&format!("{line}\n"));
        for follower in &mut lines {
            assert_eq!(follower.next().unwrap().unwrap(), line);
        }
    }
    let output = typed(&lab, "root\r");
    assert!(output.status.code() == Some(5) && said(&output).contains("`write = true`"), "{}", said(&output));

    // What hangs on a console may change under a live deployment; followers of the old one are sent away.
    import(&lab, true);
    for mut follower in followers {
        assert!(follower.wait().unwrap().success());
    }
    wait_for("typing", 20.0, || typed(&lab, "root\r"), |output| output.status.success());
    assert_eq!(uart.hear(), b"root\r");
    let terminal = Uart::plug_in(&lab.directory.path().join("terminal")).unwrap();
    let mut console = lab.coordinator.cli_command(USER, &["console", "pi-1"]);
    let mut console =
        console.stdin(terminal.terminal()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    terminal.say("ls\u{3}\u{1d}not this");
    assert_eq!(uart.hear(), b"ls\x03", "Ctrl-C is the node's, Ctrl-] is not");
    assert!(console.wait().unwrap().success());

    drop(uart);
    let trouble = |lab: &Lab| lab.node(0).console.and_then(|console| console.trouble);
    let trouble = wait_for("the line to be cut", 20.0, || trouble(&lab), Option::is_some).unwrap();
    assert!(trouble.contains("unplugged") || trouble.contains("plug it in"), "{trouble}");
    let shown = lab.coordinator.cli(USER, &["node", "show", "pi-1"]).unwrap();
    assert!(shown.contains(&*lab.directory.path().join("uart").to_string_lossy()), "{shown}");
}

#[test]
fn a_relay_board_that_is_unplugged_is_waited_for() {
    let lab = Lab::new(1);
    let link = lab.directory.path().join("relays");
    let board = "board = { raw = { on = \"A0 {port} 01 {sum}\", off = \"A0 {port} 0 {sum}\" } }";
    let rack = |board: &str| {
        let switch = format!("[switch.driver.serial]\ndevice = {link:?}\n{board}\n");
        let node = "[[node]]\nname = \"pi-9\"\nserial = \"1000000000000009\"\nmac = \"dc:a6:32:00:00:09\"\n\
                    model = \"Raspberry Pi 3 Model B\"\nswitch = \"relays\"\nport = \"7\"\n";
        lab.file("relays.toml", &format!("[[switch]]\nname = \"relays\"\noff_time_ms = 100\n{switch}{node}"))
    };
    let wrong = lab.coordinator.cli_output(ADMIN, &["node", "import", &rack(board)]).unwrap();
    assert!(
        said(&wrong).contains("`board.raw.off`") && said(&wrong).contains("`0` is no byte"),
        "{}",
        said(&wrong)
    );
    lab.coordinator.cli(ADMIN, &["node", "import", &rack("board = \"lcus\"")]).unwrap();
    lab.coordinator.cli(USER, &["reserve", "pi-9", "--for", "1h"]).unwrap();
    let key = lab.directory.path().join("key.pub");
    let key = key.to_string_lossy();
    lab.coordinator.cli(USER, &["deploy", "pi-9", "--environment", "story", "--ssh-key", &key]).unwrap();
    let logged = || fs::read_to_string(lab.coordinator.log()).unwrap();
    wait_for("the log to say so", 20.0, logged, |log| log.contains("switch does not answer"));
    assert!(logged().contains(&format!("there is no {}", link.display())), "{}", logged());
    let relays = Uart::plug_in(&link).unwrap();
    assert_eq!(relays.hear(), [0xa0, 7, 0, 0xa7]);
    assert_eq!(relays.hear(), [0xa0, 7, 1, 0xa8]);
}
