//! What the documents promise: every command line of the README is one, its installation works as it stands
//! there, and every cause of a lost or failed node is explained.

use piseduce_protocol::cause::CauseKind;
use piseduce_tests::images;
use piseduce_tests::process::{command, mortal_command, need_root, program, workspace};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

fn document(name: &str) -> String {
    fs::read_to_string(workspace().join(name)).unwrap()
}

/// The fenced blocks of a document's section, or of all of it, with what stands behind the fence.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            found.push((language.to_owned(), body.join("\n") + "\n"));
        }
    }
    found
}

fn section(text: &str, title: &str) -> String {
    let (_, rest) =
        text.split_once(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("no section {title}"));
    rest.split("\n## ").next().unwrap().to_owned()
}

/// The arguments of every `piseduce` that a shell block starts.
fn command_lines(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.split(" #").next().unwrap().trim());
    lines
        .filter_map(|line| {
            let line = line.trim_start_matches("(umask 077; ");
            let line = line.strip_prefix("sudo -u piseduce ").unwrap_or(line);
            let line = line.strip_prefix("sudo ").unwrap_or(line);
            let line = line.split(" >").next().unwrap().trim_end_matches(')');
            line.strip_prefix("piseduce ").map(str::to_owned)
        })
        .collect()
}

#[test]
fn every_command_line_of_the_readme_is_one() {
    let readme = document("README.md");
    let mut lines: Vec<String> = blocks(&readme).iter().flat_map(|(_, block)| command_lines(block)).collect();
    // Those in the text, too: `piseduce user add ann --config FILE`.
    let unbroken = readme.replace('\n', " ");
    let spans = unbroken.split('`').skip(1).step_by(2).filter_map(|span| span.strip_prefix("piseduce "));
    lines.extend(spans.filter(|span| !span.contains('/') && span.contains(' ')).map(str::to_owned));
    assert!(lines.len() > 20, "{lines:#?}");
    let nowhere = tempfile::tempdir().unwrap();
    for line in lines {
        let mut piseduce = mortal_command(program("piseduce"));
        piseduce.args(line.split_ascii_whitespace()).current_dir(nowhere.path()).env("HOME", nowhere.path());
        // Nobody is there to do what it asks; whether it may be asked so is all that matters.
        piseduce
            .env("PISEDUCE_CONFIG", nowhere.path().join("none.toml"))
            .env("PISEDUCE_URL", "http://127.0.0.1:1");
        let output = piseduce.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(2), "piseduce {line}: {said}");
    }
}

#[test]
fn every_cause_is_explained() {
    let page = document("firmware-notes/causes.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut explained = BTreeSet::new();
    for row in rows {
        let (name, rest) = row.split_once('`').unwrap();
        let cells: Vec<&str> = rest.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells.len(), 2, "{name}: what it means, and what to do");
        assert!(cells[0].len() > 20, "{name}: {}", cells[0]);
        assert!(explained.insert(name), "{name} has two rows");
    }
    let known: BTreeSet<&str> = CauseKind::ALL.iter().map(|kind| kind.name()).collect();
    let missing: Vec<_> = known.difference(&explained).collect();
    let unknown: Vec<_> = explained.difference(&known).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}, no longer known: {unknown:?}");
}

#[test]
fn documents_name_each_other_where_they_are() {
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md", "firmware-notes/README.md"] {
        let text = document(name);
        let place = workspace().join(name);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let (file, title) = link.split_once('#').unwrap_or((link, ""));
            assert!(place.parent().unwrap().join(file).exists(), "{name} links to {link}");
            let titles = text.lines().filter_map(|line| line.strip_prefix("## "));
            let mut titles = titles.map(|title| title.to_lowercase().replace(' ', "-"));
            assert!(title.is_empty() || titles.any(|known| known == title), "{name} links to {link}");
        }
    }
}

/// What is built already, what only an operator has, and what not every machine has: everything else of the README
/// is run as it stands there, under a systemd of its own.
const STAND_INS: [(&str, &str); 3] = [
    ("cargo", "#!/bin/sh\n[ \"$*\" = 'build --release' ]\n"),
    (
        "sudo",
        "#!/bin/sh\n[ \"$1\" != -u ] || { user=$2; shift 2; \
         exec setpriv --reuid=\"$user\" --regid=\"$user\" --clear-groups -- \"$@\"; }\nexec \"$@\"\n",
    ),
    (
        "poe",
        "#!/bin/sh\nstate=/var/lib/piseduce/port-$2\n[ \"$1\" != status ] || { cat $state; exit; }\necho $1 >$state\n",
    ),
];

/// Runs the script, and ends with its exit code. Everything that is usually started with a system is left out.
const UNIT: &str = r#"[Unit]
DefaultDependencies=no
Requires=systemd-journald.service
After=systemd-journald.service
[Service]
Type=oneshot
Environment=HOME=/root PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WorkingDirectory=@WORKSPACE@
ExecStart=/bin/sh -c 'sh -eux /script; code=$?; journalctl --no-pager -u piseduce >/told/log; systemctl exit $code'
StandardOutput=file:/told/said
StandardError=file:/told/steps
TimeoutStartSec=240
"#;

/// Everything in a world of its own: what is written goes to a file system in memory over this one, processes end
/// with their namespace, and the head's address is on its own loopback.
const WORLD: &str = r#"
set -eu
mount -t tmpfs none "$PLACE/world"
cd "$PLACE/world"
mkdir upper work root
mount -t overlay none -o "lowerdir=/,upperdir=upper,workdir=work" root
cd root
mount -t tmpfs none dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t proc none proc
mount -t sysfs none sys
mount -t tmpfs none sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd none sys/fs/cgroup/systemd || mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs none run
ip link set lo up
ip address add 10.0.0.1/24 dev lo
rm -rf etc/fstab etc/piseduce var/lib/piseduce* usr/local/bin/piseduce var/log/journal
rm -rf etc/systemd/system/* usr/lib/systemd/system/*.wants
! chroot . id piseduce >/dev/null 2>&1 || chroot . userdel piseduce
mkdir -p "./$WORKSPACE/target/release" "./$WORKSPACE/coordinator/systemd" srv/images root/.ssh told
cp "$WORKSPACE/coordinator/systemd/piseduce.service" "./$WORKSPACE/coordinator/systemd/"
cp "$PROGRAMS/piseduce" "$PROGRAMS/piseduce-agent" "./$WORKSPACE/target/release/"
cp "$PLACE/stand-ins"/* usr/local/bin/
cp "$IMAGE" srv/images/lab.img
echo "$KEY" >root/.ssh/id_ed25519.pub
cp "$PLACE/script" script
cp "$PLACE/readme.service" etc/systemd/system/
mount --bind "$PLACE/told" told
exec chroot . env -i container=other /usr/lib/systemd/systemd --system --unit=readme.service --log-target=console
"#;

#[test]
fn the_readme_installs_a_head_that_deploys_and_is_restored() {
    need_root().unwrap();
    let place = tempfile::tempdir().unwrap();
    for directory in ["stand-ins", "told", "world"] {
        fs::create_dir(place.path().join(directory)).unwrap();
    }
    for (name, text) in STAND_INS {
        let file = place.path().join("stand-ins").join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let workspace = workspace();
    let unit = UNIT.replace("@WORKSPACE@", &workspace.to_string_lossy());
    fs::write(place.path().join("readme.service"), unit).unwrap();
    fs::write(place.path().join("script"), script()).unwrap();
    let mut world = command("unshare");
    world.args([
        "--mount",
        "--net",
        "--pid",
        "--ipc",
        "--uts",
        "--cgroup",
        "--fork",
        "--kill-child=KILL",
        "--",
    ]);
    world.args(["sh", "-c", WORLD]);
    let built = program("piseduce");
    world.env("PLACE", place.path()).env("WORKSPACE", workspace).env("PROGRAMS", built.parent().unwrap());
    world.env("IMAGE", images::story().unwrap()).env("KEY", piseduce_tests::lab::SSH_KEY);
    let output = world.output().unwrap();
    let told = |name: &str| fs::read_to_string(place.path().join("told").join(name)).unwrap_or_default();
    let said = told("said");
    println!("{said}\n{}\n{}\n{}", told("steps"), told("log"), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "see what it said above");
    assert_eq!(said.matches("nfs_boot").count(), 2, "deploying before the restore and after it");
    assert!(said.contains("restored to /var/lib/piseduce"));
    assert_eq!(told("log").matches("coordinator is up").count(), 2, "the journal has the log");
}

/// Installation, backup and restore as the README has them, and a look at what came of it.
fn script() -> String {
    let readme = document("README.md");
    let shell = |title: &str| {
        let blocks = blocks(&section(&readme, title));
        blocks
            .into_iter()
            .filter(|(language, _)| language == "sh")
            .map(|(_, block)| block)
            .collect::<String>()
    };
    let install = shell("Install on a head node");
    // No board answers here: that the deployment is under way is as far as it goes.
    let watched = "piseduce deployment watch pi-1\n";
    assert!(install.ends_with(watched), "{install}");
    let look = "piseduce node show pi-1\n";
    let install = install.replace(watched, look);
    // A head node has NTP; the machine of a test need not.
    let (settings, trusting) =
        ("<<'END'\n[nodes]\n", "<<'END'\n[clock]\ntrust_unsynchronised = true\n[nodes]\n");
    assert!(install.contains(settings), "{install}");
    let install = install.replacen(settings, trusting, 1);
    // The image of a test is one for the machine of the test.
    let (add, adding) = ("environment add lab", "environment add --any-architecture lab");
    assert!(install.contains(add), "{install}");
    let install = install.replace(add, adding);
    format!("{install}{}{look}piseduce environment list\n", shell("Backup and restore"))
}

#[test]
fn every_test_that_the_security_page_names_is_there() {
    let page = document("SECURITY.md");
    let spans = page.split('`').skip(1).step_by(2);
    let is_test = |span: &&str| {
        span.matches('_').count() >= 3
            && span.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let named: BTreeSet<&str> = spans.filter(is_test).collect();
    assert!(named.len() > 30, "{named:#?}");
    let mut grep = command("grep");
    grep.args([
        "-rhoE",
        "--include=*.rs",
        "fn [a-z0-9_]+\\(",
        "protocol",
        "coordinator",
        "node-agent",
        "tests",
    ]);
    let output = grep.current_dir(workspace()).output().unwrap();
    let functions = String::from_utf8_lossy(&output.stdout);
    let known: BTreeSet<&str> =
        functions.lines().filter_map(|line| line.strip_prefix("fn ")?.strip_suffix('(')).collect();
    let missing: Vec<_> = named.difference(&known).collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that are not there: {missing:?}");
}
