//! Users and tokens on the head and over the API: a token that cannot be shown is none, one that is revoked is void.

use piseduce_tests::coordinator::Coordinator;
use piseduce_tests::lab::{ADMIN, USER};
use piseduce_tests::process::{command, program};
use std::fs::File;
use std::process::{Command, Output};

struct Head {
    _directory: tempfile::TempDir,
    coordinator: Coordinator,
}

impl Head {
    fn new() -> Head {
        let directory = tempfile::tempdir().unwrap();
        let coordinator = Coordinator::start(&directory.path().join("head"), "").unwrap();
        coordinator.add_user(ADMIN, "admin").unwrap();
        coordinator.add_user(USER, "user").unwrap();
        Head { _directory: directory, coordinator }
    }

    /// `piseduce user` on the head.
    fn user(&self, arguments: &[&str]) -> Command {
        let mut user = command(program("piseduce"));
        user.arg("user").args(arguments).arg("--config").arg(self.coordinator.settings());
        user
    }

    fn names(&self) -> String {
        String::from_utf8(self.user(&["list"]).output().unwrap().stdout).unwrap()
    }

    fn is_known(&self, user: &str) -> bool {
        self.coordinator.cli(user, &["node", "list"]).is_ok()
    }

    /// A request of an administrator's: its status and what came.
    fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let token = std::fs::read_to_string(self.coordinator.token_file(ADMIN)).unwrap();
        let url = format!("http://{}/api/v1/{path}", self.coordinator.people);
        let mut curl = command("curl");
        curl.args(["--silent", "--max-time", "10", "--write-out", "\n%{http_code}", "--request", method]);
        curl.args(["--header", &format!("Authorization: Bearer {}", token.trim())]);
        curl.args(["--header", "Content-Type: application/json", "--data", body, &url]);
        let output = String::from_utf8(curl.output().unwrap().stdout).unwrap();
        let (text, status) = output.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), text.into())
    }
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_token_that_cannot_be_shown_is_none_and_every_result_that_cannot_be_written_is_an_error() {
    let head = Head::new();
    let output = head.user(&["add", "eve"]).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("failed to show the token; nothing was changed: No space left"),
        "{}",
        said(&output)
    );
    assert!(!head.names().contains("eve"), "{}", head.names());

    // The old token stays.
    let output = head.user(&["renew", USER]).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(head.is_known(USER));

    let file = head.coordinator.data().join("eve.token");
    let output = head.user(&["add", "eve", "--token-file", "/proc/none"]).output().unwrap();
    assert!(
        !output.status.success() && said(&output).contains("failed to write /proc/none"),
        "{}",
        said(&output)
    );
    let output =
        head.user(&["add", "eve", "--token-file", &file.to_string_lossy()]).stdout(full()).output().unwrap();
    assert!(!output.status.success() && !file.exists(), "a file with a token of nobody's is not left");
    assert!(!head.names().contains("eve"));

    let of = |arguments: &[&str]| {
        let output = head.coordinator.cli_command(ADMIN, arguments).stdout(full()).output().unwrap();
        (output.status.code(), said(&output))
    };
    for arguments in
        [&["node", "list"][..], &["node", "list", "--json"], &["completions", "bash"], &["alarms"]]
    {
        let (code, said) = of(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(said.contains("failed to write the result: No space left"), "{arguments:?}: {said}");
    }
}

#[test]
fn tokens_are_renewed_and_revoked_and_users_removed_on_the_head_and_over_the_api() {
    let mut head = Head::new();
    let replace =
        |head: &Head, token: &str| std::fs::write(head.coordinator.token_file(USER), token).unwrap();
    // Without a coordinator.
    head.coordinator.terminate();
    let renewed = head.user(&["renew", USER]).output().unwrap();
    assert!(head.user(&["revoke", ADMIN]).output().unwrap().status.success());
    let again = head.user(&["renew", ADMIN]).output().unwrap();
    head.coordinator.resume().unwrap();
    assert!(!head.is_known(ADMIN) && !head.is_known(USER), "the old tokens are void");
    replace(&head, &String::from_utf8(renewed.stdout).unwrap());
    std::fs::write(head.coordinator.token_file(ADMIN), &again.stdout).unwrap();
    assert!(head.is_known(USER) && head.is_known(ADMIN));

    let (status, text) = head.request("POST", "users/alice/token", "{}");
    assert_eq!(status, 404, "{text}");
    let (status, text) = head.request("POST", &format!("users/{USER}/token"), "{}");
    assert_eq!(status, 200, "{text}");
    assert!(!head.is_known(USER));
    let token: serde_json::Value = serde_json::from_str(&text).unwrap();
    replace(&head, token["token"].as_str().unwrap());
    assert!(head.is_known(USER));
    assert_eq!(head.request("DELETE", &format!("users/{USER}/token"), "").0, 204);
    assert!(!head.is_known(USER));

    assert_eq!(head.request("DELETE", &format!("users/{USER}"), "").0, 204);
    assert!(!head.names().contains(USER), "{}", head.names());
    assert_eq!(head.request("DELETE", &format!("users/{USER}"), "").0, 404);
    let (status, text) = head.request("POST", "users", &format!("{{\"name\":\"{USER}\",\"role\":\"king\"}}"));
    assert!(status == 422 && text.contains("`king` is no role"), "{text}");
    let (status, text) = head.request("POST", "users", &format!("{{\"name\":\"{USER}\",\"role\":\"user\"}}"));
    assert!(status == 200 && text.contains("token"), "a name that was removed may come back: {text}");
    assert!(head.names().contains(USER));
}

#[test]
fn a_user_who_holds_nodes_is_not_removed() {
    let head = Head::new();
    let inventory = head.coordinator.data().join("rack.toml");
    let text = "[[switch]]\nname = \"sw\"\ndriver = \"manual\"\n[[node]]\nname = \"pi-1\"\nserial = \"1000000000000001\"\n\
                mac = \"dc:a6:32:00:00:01\"\nmodel = \"4B\"\nswitch = \"sw\"\nport = \"1\"\n";
    std::fs::write(&inventory, text).unwrap();
    head.coordinator.cli(ADMIN, &["node", "import", &inventory.to_string_lossy()]).unwrap();
    head.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let output = head.user(&["remove", USER]).output().unwrap();
    assert!(!output.status.success() && said(&output).contains("it holds pi-1"), "{}", said(&output));
    assert!(head.is_known(USER));
}
