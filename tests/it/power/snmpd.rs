//! net-snmp's `snmpd` as the switch, by every version, looked at from outside with `snmpget`.

use super::{driver, port, queue, switched, why};
use piseduce_coordinator::machine::event::Powered;
use piseduce_coordinator::power::{self, Power};
use piseduce_tests::coordinator::free_udp_address;
use piseduce_tests::process::{command, mortal_command};
use piseduce_tests::wait::wait_for;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

const ADMIN: &str = "1.3.6.1.2.1.105.1.1.1.3.1";
const LONG: Duration = Duration::from_secs(30);

/// A `pass_persist` program: the port table in files of a directory, one a port. After each `set` net-snmp 5.9 sends
/// an empty line.
const PASS: &str = r#"#!/bin/sh
cd "$(dirname "$0")/ports" || exit 1
base=.1.3.6.1.2.1.105.1.1.1
value() { # column, port
    read -r state <"$2"
    case $1$state in 3on) echo 1 ;; 3off) echo 2 ;; 6on) echo 3 ;; 6off) echo 1 ;; esac
}
show() { printf '%s.%s.1.%s\ninteger\n%s\n' "$base" "$1" "$2" "$(value "$1" "$2")"; }
split() { rest=${1#"$base".}; column=${rest%%.*}; port=${rest##*.}; }
while read -r word; do
    case $word in
        '') ;;
        PING) echo PONG ;;
        get)
            read -r oid
            split "$oid"
            if [ "$oid" = "$base.$column.1.$port" ] && [ -e "$port" ]; then show "$column" "$port"; else echo NONE; fi ;;
        getnext)
            read -r oid
            case $oid in
                "$base" | "$base.3" | "$base.3.1") show 3 1 ;;
                "$base".3.1.4) show 6 1 ;;
                "$base".3.1.*) split "$oid"; show 3 $((port + 1)) ;;
                "$base".[45] | "$base".6 | "$base".6.1) show 6 1 ;;
                "$base".6.1.4) echo NONE ;;
                "$base".6.1.*) split "$oid"; show 6 $((port + 1)) ;;
                *) echo NONE ;;
            esac ;;
        set)
            read -r oid
            read -r type number
            split "$oid"
            case $column.$type.$number in
                3.integer.1) echo on >"$port"; echo DONE ;;
                3.integer.2) echo off >"$port"; echo DONE ;;
                3.integer.*) echo wrong-value ;;
                3.*) echo wrong-type ;;
                *) echo not-writable ;;
            esac ;;
    esac
done
"#;

/// A running `snmpd` with four ports.
struct Snmpd {
    process: Child,
    address: String,
    directory: tempfile::TempDir,
}

impl Snmpd {
    fn start() -> Snmpd {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("ports")).unwrap();
        (1..=4).for_each(|number| fs::write(at("ports").join(number.to_string()), "off\n").unwrap());
        fs::write(at("pass"), PASS).unwrap();
        fs::set_permissions(at("pass"), fs::Permissions::from_mode(0o755)).unwrap();
        // snmpd cannot bind port 0 and say which it got.
        let address = free_udp_address().unwrap().to_string();
        let settings = format!(
            "agentaddress udp:{address}\nrwcommunity rack-rw\nrocommunity rack-ro\n\
             createUser rack SHA-256 \"auth-password\" AES \"privacy-password\"\nrwuser rack authpriv\n\
             sysDescr Test switch\npass_persist .1.3.6.1.2.1.105.1.1.1 {}\n",
            at("pass").display()
        );
        fs::write(at("snmpd.conf"), settings).unwrap();
        let log = fs::File::create(at("snmpd.log")).unwrap();
        let mut snmpd = mortal_command("snmpd");
        snmpd.env("SNMP_PERSISTENT_DIR", at("persistent"));
        snmpd.args(["-f", "-Lo", "-C", "-I", "-smux,mteTrigger,mteTriggerConf", "-c"]).arg(at("snmpd.conf"));
        snmpd.arg("-p").arg(at("snmpd.pid"));
        let process = snmpd.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        let process = process.expect("snmpd cannot be started; Debian's package snmpd has it");
        let snmpd = Snmpd { process, address, directory };
        let up = || snmpd.get(1);
        wait_for("snmpd to answer", 20.0, up, Option::is_some);
        snmpd
    }

    /// A port's pethPsePortAdminEnable, as anybody outside sees it.
    fn get(&self, number: u32) -> Option<String> {
        let oid = format!("{ADMIN}.{number}");
        let mut get = command("snmpget");
        get.args(["-v2c", "-c", "rack-ro", "-t", "1", "-r", "0", "-Oqv", &self.address, &oid]);
        let output = get.output().expect("snmpget cannot be started; Debian's package snmp has it");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn entry(&self, version: &str, secrets: &str) -> String {
        let file = self.directory.path().join("secrets");
        fs::write(&file, secrets).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        entry(&self.address, version, &file)
    }
}

impl Drop for Snmpd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn entry(address: &str, version: &str, secrets: &Path) -> String {
    let secrets = secrets.display();
    format!(
        "[[switch]]\nname = \"sw\"\n[switch.driver.snmp]\naddress = \"{address}\"\nversion = \"{version}\"\nsecrets = \"{secrets}\"\n"
    )
}

const V3: &str =
    "user = \"rack\"\nauth_password = \"auth-password\"\nprivacy_password = \"privacy-password\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn net_snmp_is_switched_by_every_version_and_seen_from_outside() {
    let snmpd = Snmpd::start();
    for (version, secrets) in
        [("1", "community = \"rack-rw\"\n"), ("2c", "community = \"rack-rw\"\n"), ("3", V3)]
    {
        let mut queue = queue(&driver(&snmpd.entry(version, secrets)), LONG);
        assert_eq!(switched(&mut queue, 2, Power::On).await, Powered::On, "version {version}");
        assert_eq!(snmpd.get(2).as_deref(), Some("1"));
        assert_eq!(switched(&mut queue, 2, Power::Off).await, Powered::Off);
        assert_eq!(snmpd.get(2).as_deref(), Some("2"));
        let ports = power::open(&driver(&snmpd.entry(version, secrets))).ports().await.unwrap().unwrap();
        assert_eq!(ports.len(), 4, "version {version}: {ports:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn net_snmp_refuses_and_is_asked_with_wrong_credentials() {
    let snmpd = Snmpd::start();
    let read_only = snmpd.entry("2c", "community = \"rack-ro\"\n");
    let failed = why(&switched(&mut queue(&driver(&read_only), LONG), 2, Power::On).await);
    assert!(failed.starts_with("switch_refused") && failed.contains("noAccess"), "{failed}");
    assert_eq!(snmpd.get(2).as_deref(), Some("2"));

    let wrong = snmpd.entry("3", &V3.replace("auth-password", "wrong-password"));
    let error = power::open(&driver(&wrong)).read(&port(2)).await.unwrap_err().to_string();
    assert!(error.contains("credentials") && !error.contains("wrong-password"), "{error}");
}
