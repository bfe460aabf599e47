//! `make bench`: how long deployments take, each beside something that no software can beat: `dd` to the same card, the speed of
//! slowed-down cards, a rack of a fifth of the nodes. Numbers are for people; nothing fails by them.

use anyhow::Context as _;
use piseduce_coordinator::api::{DeploymentHistory, PassportView};
use piseduce_coordinator::print;
use piseduce_protocol::state::State;
use piseduce_tests::board::CID;
use piseduce_tests::images;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use piseduce_tests::process::{need_root, run};
use piseduce_tests::wait::seconds;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Racks that are compared.
const FEW: usize = 4;
const MANY: usize = 20;
/// How fast slowed-down cards write, in bytes a second: so slow that two cores have time for twenty agents.
const SLOW: u64 = 2_000_000;
/// The limits of cgroup v1 for block devices.
const BLKIO: &str = "/sys/fs/cgroup/blkio";
/// A deployment takes no longer.
const DEPLOYED_SECONDS: f64 = 300.0;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::error(format!("{error:#}"), "");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> anyhow::Result<()> {
    need_root()?;
    print::line(
        "image: Debian, made by mmdebstrap the first time (about a minute) and kept in target/images",
    );
    one_node(&images::debian()?)?;
    match Throttle::new() {
        Ok(throttle) => two_racks(&throttle),
        Err(error) => {
            print::line(format!("racks are not compared: cards cannot be slowed down here: {error:#}"));
            Ok(())
        }
    }
}

/// One node, a fast card: what the software can do at most.
fn one_node(image: &Path) -> anyhow::Result<()> {
    let lab = Lab::new(1);
    lab.add_environment("debian", image)?;
    mark(&lab, 0)?;
    let (name, key) = (lab.names()[0].to_owned(), lab.directory.path().join("key.pub"));
    lab.coordinator.cli(USER, &["reserve", &name, "--for", "4h"])?;
    let form = ["--environment", "debian", "--ssh-key", &*key.to_string_lossy()].map(str::to_owned);
    let form: Vec<&str> = form.iter().map(String::as_str).collect();
    lab.coordinator.cli(USER, &[&["deploy", &name], &form[..]].concat())?;
    let first = deployed(&lab, 0)?;
    lab.coordinator.cli(USER, &["deploy-again", &name])?;
    let second = again(&lab, 0, &first)?;
    let copies = passport(&lab, 0)?.copies;
    let [written, rewritten] = [0, 1].map(|at| copies.get(at).map_or(0, |copy| copy.bytes));
    lab.rack.crash(0);
    let device = lab.rack.with_card(0, |card| card.device().to_path_buf());
    let dd = beside(&device, written)?;
    let copy = spent(&first, State::EnvCopy);
    print::line(format!(
        "first write: {} in {copy:.1} s, dd as much in {dd:.1} s: ratio {:.2}; read back in {:.1} s",
        megabytes(written),
        copy / dd,
        spent(&first, State::EnvCheck)
    ));
    print::line(format!(
        "the same again on the used card: {} written, copied and read back in {:.1} s",
        megabytes(rewritten),
        spent(&second, State::EnvCopy) + spent(&second, State::EnvCheck)
    ));
    Ok(())
}

/// The same environment on few and on many nodes, whose cards are the limit.
fn two_racks(throttle: &Throttle) -> anyhow::Result<()> {
    let [few, many] = [FEW, MANY].map(|count| -> anyhow::Result<f64> {
        let lab = Lab::with_limits(count, "boots_in_flight = 1000\n");
        for index in 0..count {
            mark(&lab, index)?;
            lab.rack.with_card(index, |card| throttle.slow_down(card.device()))?;
        }
        lab.deploy(&[]);
        let histories: Vec<DeploymentHistory> =
            (0..count).map(|index| deployed(&lab, index)).collect::<Result<_, _>>()?;
        let all: Vec<f64> = histories.iter().map(whole).collect();
        let copies: Vec<f64> = histories.iter().map(|history| spent(history, State::EnvCopy)).collect();
        let bytes = passport(&lab, 0)?.written;
        let card = bytes as f64 / SLOW as f64;
        print::line(format!(
            "{count} nodes: median deployment {:.1} s; copy {:.1} s, cards alone need {card:.1} s for {}: ratio {:.2}",
            median(&all),
            median(&copies),
            megabytes(bytes),
            median(&copies) / card
        ));
        Ok(median(&all))
    });
    print::line(format!("{MANY} nodes beside {FEW}: ratio {:.2}", many? / few?));
    Ok(())
}

/// Gives a board's card an identification, so that it has a passport.
fn mark(lab: &Lab, index: usize) -> anyhow::Result<()> {
    let place = lab.rack.place(index);
    fs::create_dir_all(&place)?;
    Ok(fs::write(place.join(CID), cid(index))?)
}

fn cid(index: usize) -> String {
    format!("{index:032x}")
}

fn passport(lab: &Lab, index: usize) -> anyhow::Result<PassportView> {
    lab.coordinator.get(ADMIN, &format!("cards/{}", cid(index)))
}

fn deployed(lab: &Lab, index: usize) -> anyhow::Result<DeploymentHistory> {
    let status = lab.wait_for(index, State::Deployed, DEPLOYED_SECONDS);
    Ok(lab.history(status.id))
}

/// The next run of a deployment, once it has ended well; what was before is left out.
fn again(lab: &Lab, index: usize, before: &DeploymentHistory) -> anyhow::Result<DeploymentHistory> {
    let run = before.deployment.status.run;
    piseduce_tests::wait::wait_for(
        "the next run",
        60.0,
        || lab.status(index),
        |status| status.as_ref().is_some_and(|status| status.run > run),
    );
    let mut history = deployed(lab, index)?;
    history.journal.drain(..before.journal.len());
    Ok(history)
}

/// Seconds between the first entry of a state and the first of a later one.
fn spent(history: &DeploymentHistory, state: State) -> f64 {
    let from = history.journal.iter().position(|entry| entry.state == state);
    let times = from.and_then(|from| {
        let end = history.journal[from..].iter().find(|entry| entry.state != state)?;
        Some(end.unix_ms.saturating_sub(history.journal[from].unix_ms))
    });
    times.unwrap_or(0) as f64 / 1000.0
}

/// From the form to the end.
fn whole(history: &DeploymentHistory) -> f64 {
    let times = history.journal.first().zip(history.journal.last());
    times.map_or(0, |(first, last)| last.unix_ms.saturating_sub(first.unix_ms)) as f64 / 1000.0
}

/// Seconds that `dd` needs to write as many bytes to a card, past every cache, and flush it.
fn beside(device: &Path, bytes: u64) -> anyhow::Result<f64> {
    let (to, count) = (format!("of={}", device.display()), format!("count={}", bytes >> 20));
    let began = seconds();
    run("dd", &["if=/dev/zero", &to, "bs=1M", &count, "oflag=direct", "conv=fsync", "status=none"])?;
    Ok(seconds() - began)
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A group of processes, this one and its children, whose writes to some devices are slowed down. It ends with this value.
struct Throttle {
    group: PathBuf,
}

impl Throttle {
    fn new() -> anyhow::Result<Throttle> {
        let group = Path::new(BLKIO).join(format!("piseduce-bench-{}", std::process::id()));
        fs::create_dir(&group).with_context(|| format!("no {BLKIO} of cgroup v1"))?;
        let throttle = Throttle { group };
        fs::write(throttle.group.join("cgroup.procs"), std::process::id().to_string())?;
        Ok(throttle)
    }

    fn slow_down(&self, device: &Path) -> anyhow::Result<()> {
        let number = fs::metadata(device)?.rdev();
        let limit = format!("{}:{} {SLOW}", rustix::fs::major(number), rustix::fs::minor(number));
        let file = self.group.join("blkio.throttle.write_bps_device");
        fs::write(&file, limit).with_context(|| format!("failed to write {}", file.display()))
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // A group that still has processes stays; they end with this one.
        let _ = fs::write(Path::new(BLKIO).join("cgroup.procs"), std::process::id().to_string());
        let _ = fs::remove_dir(&self.group);
    }
}
