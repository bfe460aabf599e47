//! What the firmware of each model asks, of a real DHCP server and the real coordinator, and what it does with the answers. The
//! virtual firmware follows documentation and traces of others; no board was asked.

use piseduce_coordinator::api::{AlarmView, DiscoveredView};
use piseduce_coordinator::netboot::dnsmasq::Host;
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::state::State;
use piseduce_protocol::status::DeploymentStatus;
use piseduce_tests::bench_boot_root;
use piseduce_tests::board::BootSource;
use piseduce_tests::dnsmasq::Dnsmasq;
use piseduce_tests::firmware::{Firmware, From, Hang, Loaded, Model, Settings, Watch};
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::process::run;
use piseduce_tests::rack_network::{BRIDGE, HEAD, RackNetwork, address};
use piseduce_tests::wait::{seconds, wait_for};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Somebody on the same wire.
const OTHER: &str = "02:00:00:00:00:66";
const MAC: &str = "dc:a6:32:00:00:01";
const SERIAL: &str = "1000000000000001";
const PREFIX: &str = "00000001/";
const MODELS: [Model; 4] = [Model::Pi3, Model::Pi3Plus, Model::Pi4, Model::Pi5];

/// One board on a network with a DHCP server.
struct Place {
    directory: tempfile::TempDir,
    network: Arc<RackNetwork>,
    _dnsmasq: Dnsmasq,
}

impl Place {
    fn new(model: Model) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let network = Arc::new(RackNetwork::new(&[MAC.to_owned()]).unwrap());
        let is_pi3 = model.is_boot_rom();
        let host = Host { mac: MAC.into(), name: "pi-1".into(), ip: Some(address(1)), is_pi3 };
        let dnsmasq =
            network.head.within(|| Dnsmasq::start(directory.path(), BRIDGE, HEAD, &[host]).unwrap());
        Place { directory, network, _dnsmasq: dnsmasq }
    }

    /// A card with these files in its boot partition.
    fn card(&self, files: &[&str]) -> std::path::PathBuf {
        let card = self.directory.path().join("card.img");
        let path = card.to_string_lossy();
        fs::write(&card, []).unwrap();
        fs::File::options().write(true).open(&card).unwrap().set_len(40 << 20).unwrap();
        let layout = self.directory.path().join("layout");
        fs::write(&layout, "label: dos\nstart=8192, type=c\n").unwrap();
        run("sh", &["-c", &format!("sfdisk --quiet {path} <{}", layout.display())]).unwrap();
        run("mkfs.fat", &["-F", "32", "-s", "1", "--offset", "8192", &path, "36864"]).unwrap();
        for name in files {
            let file = self.directory.path().join(name);
            let text = if *name == "cmdline.txt" { "console=serial0,115200 root=card" } else { *name };
            fs::write(&file, text).unwrap();
            let target = format!("{path}@@4194304");
            run("mcopy", &["-i", &target, &file.to_string_lossy(), &format!("::{name}")]).unwrap();
        }
        card
    }

    fn boot_as(&self, model: Model, settings: Settings, card: &Path) -> (Result<Loaded, Hang>, Vec<String>) {
        self.boot_as_for(60.0, model, settings, card)
    }

    /// The same with power for so many seconds.
    fn boot_as_for(
        &self,
        powered: f64,
        model: Model,
        settings: Settings,
        card: &Path,
    ) -> (Result<Loaded, Hang>, Vec<String>) {
        self.network.firmware_speaks(1).unwrap();
        let firmware = Firmware {
            model,
            mac: MAC.into(),
            serial: SERIAL.into(),
            settings,
            namespace: &self.network.boards[0],
            card: card.into(),
        };
        let told = Mutex::new(Vec::new());
        let until = seconds() + powered;
        let watch = Watch {
            powered: &|| seconds() < until,
            tell: &|line| told.lock().unwrap().push(line.to_owned()),
        };
        let end = firmware.boot(&watch);
        self.network.firmware_is_silent(1).unwrap();
        (end, told.into_inner().unwrap())
    }
}

/// Times that a test can wait for.
pub(super) fn quick(model: Model) -> Settings {
    Settings {
        dhcp_ms: 1500,
        dhcp_again_ms: 400,
        tftp_file_ms: 1200,
        restart_pause_ms: 50,
        ..Settings::of(model)
    }
}

/// What was asked for over TFTP, without the answers.
fn asked(told: &[String]) -> Vec<&str> {
    let names = told.iter().filter_map(|line| line.strip_prefix("tftp ")?.split(':').next());
    names.collect()
}

/// A lab on this network, with a boot root that has a file for every model.
fn lab(network: &Arc<RackNetwork>, limits: &str) -> Lab {
    let lab = Lab::on(network, limits);
    add_boot_root(&lab.coordinator.data());
    lab
}

/// A boot root with a file for every model, which nobody could boot.
pub(super) fn add_boot_root(data: &Path) {
    let names = [
        "bootcode.bin",
        "start.elf",
        "fixup.dat",
        "start4.elf",
        "fixup4.dat",
        "bcm2711-rpi-4-b.dtb",
        "bcm2712-rpi-5-b.dtb",
        "kernel8.img",
        "initramfs8",
    ];
    let mut files = names.map(|name| (name, name.repeat(1000).into_bytes())).to_vec();
    files.push(("config.txt", b"kernel=kernel8.img\ninitramfs initramfs8 followkernel\n".to_vec()));
    bench_boot_root::add(data, "one", "console=serial0,115200 panic=10", &files).unwrap();
}

#[test]
fn every_model_fetches_the_boot_root_in_its_own_order() {
    let place = Place::new(Model::Pi4);
    place.network.head.within(|| {
        let lab = lab(&place.network, "");
        lab.rack.connect(&BootSource::Nobody);
        lab.deploy(&[]);
        let waiting = || lab.status(0).and_then(|status| status.waiting).unwrap_or_default();
        wait_for("power", 30.0, waiting, |told| told.contains("to ask for the boot root"));
        for model in MODELS {
            let (end, told) = place.boot_as(model, Settings::of(model), Path::new("/nowhere"));
            let loaded = end.unwrap_or_else(|hang| panic!("{model:?}: {hang}; {told:#?}"));
            assert_eq!(loaded.from, From::Network);
            assert_eq!(loaded.kernel, "kernel8.img".repeat(1000).into_bytes(), "{model:?}");
            assert_eq!(loaded.initramfs, Some("initramfs8".repeat(1000).into_bytes()), "{model:?}");
            let line = &loaded.command_line;
            assert!(line.starts_with("console=ttyAMA0,115200 panic=10 piseduce.site="), "{line}");
            assert!(line.contains("piseduce.token="), "{model:?}: {line}");
            let first: &[&str] = match model {
                Model::Pi3 | Model::Pi3Plus => &["bootcode.bin", "bootsig.bin", "00000001/start.elf"],
                Model::Pi4 => &["00000001/start4.elf", "00000001/config.txt"],
                Model::Pi5 => &["00000001/config.txt", "00000001/pieeprom.sig"],
            };
            let asked = asked(&told);
            assert_eq!(asked[..first.len()], *first, "{model:?}");
            let last = ["cmdline.txt", "kernel8.img", "initramfs8"].map(|name| format!("{PREFIX}{name}"));
            assert_eq!(asked[asked.len() - 3..], last, "{model:?}");
        }
    });
}

#[test]
fn what_a_firmware_asks_before_its_files_names_the_cause_of_its_silence() {
    let network = Arc::new(RackNetwork::new(&[MAC.to_owned()]).unwrap());
    network.head.within(|| {
        let limits = "restart_budget = 0\nrestart_after_s = 8\nblocked_max_s = 8\n";
        let listens = format!("[[netboot.network]]\ninterface = \"{BRIDGE}\"\nhead = \"{HEAD}/24\"\n");
        let lab = lab(&network, &format!("{limits}{listens}"));
        lab.rack.connect(&BootSource::Nobody);
        let boot = || {
            network.firmware_speaks(1).unwrap();
            let settings = quick(Model::Pi4);
            let (mac, serial, card) = (MAC.into(), SERIAL.into(), "/nowhere".into());
            let (model, namespace) = (Model::Pi4, &network.boards[0]);
            let until = seconds() + 4.0;
            let firmware = Firmware { model, mac, serial, settings, namespace, card };
            let _ = firmware.boot(&Watch { powered: &|| seconds() < until, tell: &|_| {} });
            network.firmware_is_silent(1).unwrap();
        };
        let waiting = || lab.status(0).and_then(|status| status.waiting).unwrap_or_default();
        let lost = || {
            let is_lost = |status: &Option<DeploymentStatus>| {
                status.as_ref().is_some_and(|status| status.state == State::Lost)
            };
            wait_for("the node to be lost", 90.0, || lab.status(0), is_lost).unwrap().cause.unwrap()
        };
        lab.deploy(&[]);
        wait_for("power", 30.0, waiting, |told| told.contains("to ask for the boot root"));
        boot();
        let told = waiting();
        assert!(told.contains("somebody to offer the node's firmware an address"), "{told}");
        let cause = lost();
        assert!(cause.is(CauseKind::NoDhcp), "{cause}");
        let alarms = || lab.coordinator.get::<Vec<AlarmView>>(ADMIN, "alarms").unwrap();
        assert!(alarms().is_empty(), "{:?}", alarms());

        // Somebody's router on the same wire.
        let other = network.stranger(OTHER, [10, 77, 0, 66].into()).unwrap();
        let place = lab.directory.path().join("other");
        let _other = other.within(|| Dnsmasq::start(&place, "eth0", [10, 77, 0, 66].into(), &[]).unwrap());
        lab.coordinator.cli(USER, &["deploy-again", "pi-1"]).unwrap();
        wait_for("power", 30.0, waiting, |told| told.contains("to ask for the boot root"));
        boot();
        let told = waiting();
        assert!(told.contains("to ask for the boot root; it was offered an address"), "{told}");
        let cause = lost();
        assert!(cause.is(CauseKind::DhcpNoTftp) && cause.seen.starts_with("10.77.0.66 offered"), "{cause}");
        let seen = alarms();
        let from = seen.iter().find(|alarm| alarm.mac.as_deref() == Some(OTHER));
        assert_eq!(from.unwrap().name, "foreign_dhcp", "{seen:?}");
        let text = lab.coordinator.cli(ADMIN, &["alarms"]).unwrap();
        assert!(text.contains("10.77.0.66 (02:00:00:00:00:66) gives addresses on br0"), "{text}");
    });
}

#[test]
fn a_deployed_card_is_booted_without_waiting() {
    let place = Place::new(Model::Pi4);
    place.network.head.within(|| {
        let lab = lab(&place.network, "");
        lab.deploy(&[]);
        lab.wait_for(0, State::Deployed, 120.0);
        let card = place.card(&["config.txt", "start4.elf", "cmdline.txt", "kernel8.img", "kernel_2712.img"]);
        for model in [Model::Pi4, Model::Pi5] {
            let began = seconds();
            let (end, told) = place.boot_as(model, Settings::of(model), &card);
            let loaded = end.unwrap_or_else(|hang| panic!("{model:?}: {hang}; {told:#?}"));
            assert_eq!(
                (loaded.from, loaded.command_line.as_str()),
                (From::Card, "console=ttyAMA0,115200 root=card")
            );
            assert!(
                told.iter().filter(|line| line.starts_with("tftp")).all(|line| line.ends_with("not found"))
            );
            assert!(seconds() - began < 10.0, "\"not found\" must come at once: {told:#?}");
        }
    });
}

#[test]
fn boards_that_are_not_registered_get_nothing_and_are_seen() {
    let place = Place::new(Model::Pi3Plus);
    place.network.head.within(|| {
        let lab = lab(&place.network, "");
        lab.rack.connect(&BootSource::Nobody);
        place.network.boards[0].ip("link set eth0 address b8:27:eb:09:09:09").unwrap();
        place.network.firmware_speaks(1).unwrap();
        let firmware = Firmware {
            model: Model::Pi3Plus,
            mac: "b8:27:eb:09:09:09".into(),
            serial: "0000000012345678".into(),
            settings: Settings::of(Model::Pi3Plus),
            namespace: &place.network.boards[0],
            card: "/nowhere".into(),
        };
        let end = firmware.boot(&Watch { powered: &|| true, tell: &|_| {} });
        assert_eq!(end.unwrap_err(), Hang("the boot ROM found no bootcode.bin".into()));
        let found: Vec<DiscoveredView> = lab.coordinator.get(ADMIN, "discovered").unwrap();
        assert_eq!(found[0].mac.as_deref(), Some("b8:27:eb:09:09:09"));
    });
}

#[test]
fn a_pi_3_boots_its_card_first_and_is_dark_without_dhcp() {
    let place = Place::new(Model::Pi3);
    let standalone = place.card(&["bootcode.bin", "start.elf", "config.txt", "cmdline.txt", "kernel8.img"]);
    let (end, told) = place.boot_as(Model::Pi3, quick(Model::Pi3), &standalone);
    assert_eq!(end.unwrap().from, From::Card);
    assert!(asked(&told).is_empty());
    place.network.plug(1, false).unwrap();
    let ours = place.card(&["start.elf", "config.txt", "cmdline.txt", "kernel8.img"]);
    let (end, _) = place.boot_as(Model::Pi3, quick(Model::Pi3), &ours);
    let hang = end.unwrap_err().0;
    assert_eq!(hang, "no usable DHCP answer within 2 s; the boot ROM sleeps until its power is cut");
}

#[test]
fn a_tftp_server_that_is_away_ends_differently_on_each_model() {
    let place = Place::new(Model::Pi4);
    let card = place.card(&["config.txt", "start4.elf", "cmdline.txt", "kernel8.img"]);
    let (end, told) = place.boot_as(Model::Pi4, quick(Model::Pi4), &card);
    assert_eq!(end.unwrap().from, From::Card, "a Pi 4 goes on to its card: {told:#?}");
    let (end, _) = place.boot_as(Model::Pi5, quick(Model::Pi5), &card);
    assert_eq!(
        end.unwrap_err().0,
        format!("tftp {PREFIX}config.txt: no answer for 1.2 s"),
        "a Pi 5 stays black"
    );
    let watched = Settings { watchdog_ms: Some(2000), boot_order: 0xf2, ..quick(Model::Pi5) };
    let (end, told) = place.boot_as_for(15.0, Model::Pi5, watched, &card);
    assert!(end.is_err() && asked(&told).len() > 1, "its watchdog starts it again: {told:#?}");
    let (end, _) = place.boot_as(Model::Pi4, Settings { boot_order: 0xe2, ..quick(Model::Pi4) }, &card);
    assert!(end.unwrap_err().0.starts_with("its boot order stops here"));
    let (end, _) =
        place.boot_as(Model::Pi4, Settings { boot_order: 0x1, ..quick(Model::Pi4) }, &place.card(&[]));
    assert_eq!(end.unwrap_err().0, "the card has no start4.elf");
}
