//! Guards: what in a board's bootloader, or plugged into the board, would keep it from coming back into the boot root, or from
//! booting its card. Settings and their values: rpi-eeprom's documentation (eeprom-bootloader, bootflow-eeprom, bootflow-legacy)
//! and release notes; no board was tried.

use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::model::{Generation, Model};
use std::collections::BTreeMap;

/// What a site does about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The node is neither deployed nor freed.
    Refuse,
    /// People are told.
    Warn,
    /// Nothing.
    Ignore,
}

impl Action {
    /// All, by what settings call them.
    pub const NAMES: [(&str, Action); 3] =
        [("refuse", Action::Refuse), ("warn", Action::Warn), ("ignore", Action::Ignore)];

    /// The action of this name.
    pub fn named(name: &str) -> Option<Action> {
        Action::NAMES.iter().find_map(|(known, action)| (*known == name).then_some(*action))
    }

    /// What settings call it.
    pub fn name(self) -> &'static str {
        Action::NAMES
            .iter()
            .find_map(|(name, action)| (*action == self).then_some(*name))
            .expect("listed above")
    }
}

/// What is looked for: as which cause it is known, what is done about it unless the site says otherwise, and how to mend it.
#[derive(Debug, PartialEq, Eq)]
pub struct Guard {
    /// Its name.
    pub kind: CauseKind,
    /// What is done about it.
    pub action: Action,
    /// What to do about it.
    pub remedy: &'static str,
}

const ORDER: &str = "set BOOT_ORDER=0xf12 (network, card, again) with `rpi-eeprom-config --edit`";

/// All of them.
pub const GUARDS: [Guard; 8] = [
    Guard { kind: CauseKind::BootOrderUnreachable, action: Action::Refuse, remedy: ORDER },
    Guard { kind: CauseKind::BootOrderNoCard, action: Action::Refuse, remedy: ORDER },
    Guard {
        kind: CauseKind::UsbFirst,
        action: Action::Refuse,
        remedy: "unplug the USB disk, or set BOOT_ORDER=0xf12 with `rpi-eeprom-config --edit` where there is an EEPROM",
    },
    Guard {
        kind: CauseKind::PowerButton,
        action: Action::Refuse,
        remedy: "set WAIT_FOR_POWER_BUTTON=0 and POWER_OFF_ON_HALT=0 with `rpi-eeprom-config --edit`",
    },
    Guard {
        kind: CauseKind::NoBootWatchdog,
        action: Action::Warn,
        remedy: "set BOOT_WATCHDOG_TIMEOUT=120 with `rpi-eeprom-config --edit`",
    },
    Guard {
        kind: CauseKind::GivesUp,
        action: Action::Warn,
        remedy: "let BOOT_ORDER begin with 0xf, and leave MAX_RESTARTS at -1",
    },
    Guard {
        kind: CauseKind::OldBootloader,
        action: Action::Warn,
        remedy: "update the bootloader with `rpi-eeprom-update -a` and a reboot, in maintenance",
    },
    Guard {
        kind: CauseKind::FixedAddress,
        action: Action::Warn,
        remedy: "take CLIENT_IP and TFTP_IP out with `rpi-eeprom-config --edit`, so that DHCP says where to boot from",
    },
];

/// The guard of this name.
pub fn guard(kind: CauseKind) -> Option<&'static Guard> {
    GUARDS.iter().find(|guard| guard.kind == kind)
}

/// What a site does about findings where it differs from what is usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guards(BTreeMap<&'static str, Action>);

impl Guards {
    /// Has another action taken about findings of this kind.
    pub fn set(&mut self, kind: CauseKind, action: Action) {
        self.0.insert(kind.name(), action);
    }

    /// What is done about a finding.
    pub fn action(&self, finding: &Finding) -> Action {
        let usual = guard(finding.kind).map_or(Action::Warn, |guard| guard.action);
        self.0.get(finding.kind.name()).copied().unwrap_or(usual)
    }

    /// The first finding that the site refuses, as a cause.
    pub fn objection(&self, findings: &[Finding]) -> Option<Cause> {
        let refused = findings.iter().find(|finding| self.action(finding) == Action::Refuse)?;
        Some(refused.cause())
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: CauseKind,
    /// What was seen, in a clause without a full stop.
    pub seen: String,
}

impl Finding {
    /// The same as why a node is neither deployed nor freed.
    fn cause(&self) -> Cause {
        match guard(self.kind) {
            Some(guard) => Cause::new(self.kind, format!("{}; {}", self.seen, guard.remedy)),
            None => Cause::new(self.kind, self.seen.clone()),
        }
    }
}

/// The fix after which a Pi 4 of revision 1.1 boots from the network again after a reboot (2022-04-22; rpi-eeprom issue 417).
const OLD_BEFORE_UNIX: u64 = 1_650_585_600;
/// What stands in for a boot order that is not set.
const USUAL_ORDER: &str = "0xf41";

/// Where a bootloader looks, by the digit of `BOOT_ORDER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Card,
    Network,
    Usb,
    Other,
    /// Waits, or stops: what follows is never reached.
    End,
    Again,
}

fn mode(digit: u32) -> Mode {
    match digit {
        1 => Mode::Card,
        2 => Mode::Network,
        4 | 5 => Mode::Usb,
        3 | 0xe => Mode::End,
        0xf => Mode::Again,
        _ => Mode::Other,
    }
}

/// The places where a bootloader looks until it begins anew or ends, first things first.
fn order(text: &str) -> Option<Vec<Mode>> {
    let mut digits = u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()?;
    let mut modes = Vec::new();
    while digits != 0 {
        modes.push(mode(digits & 0xf));
        if matches!(modes.last(), Some(Mode::End | Mode::Again)) {
            break;
        }
        digits >>= 4;
    }
    Some(modes)
}

/// What is wrong with a board of this model, by what its agent read of its bootloader and of what is plugged in.
pub fn examine(model: &str, facts: &[(String, String)]) -> Vec<Finding> {
    let fact =
        |name: &str| facts.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.trim());
    let mut findings = Vec::new();
    let mut found = |kind, seen: String| findings.push(Finding { kind, seen });
    let disk = fact("usb-storage");
    let generation = Model::of(model).generation();
    if generation == Generation::Three {
        if let Some(disk) = disk {
            found(
                CauseKind::UsbFirst,
                format!("a USB disk is plugged in ({disk}), which a Pi 3 boots before the network"),
            );
        }
        return findings;
    }
    let is_read = facts.iter().any(|(name, _)| name.starts_with(|first: char| first.is_ascii_uppercase()));
    if is_read {
        let text = fact("BOOT_ORDER").unwrap_or(USUAL_ORDER);
        let said = match fact("BOOT_ORDER") {
            Some(text) => format!("BOOT_ORDER={text}"),
            None => format!("BOOT_ORDER is not set, which means {USUAL_ORDER},"),
        };
        match order(text) {
            None => found(CauseKind::BootOrderUnreachable, format!("{said} is no boot order")),
            Some(order) => findings.extend(of_order(&order, &said, disk)),
        }
    }
    let mut found = |kind, seen: String| findings.push(Finding { kind, seen });
    let is_on = |name: &str| fact(name).is_some_and(|value| value == "1");
    if is_on("WAIT_FOR_POWER_BUTTON") {
        found(
            CauseKind::PowerButton,
            "WAIT_FOR_POWER_BUTTON=1: the board may stay off when its power returns".into(),
        );
    }
    if is_read
        && generation == Generation::Five
        && fact("BOOT_WATCHDOG_TIMEOUT").is_none_or(|seconds| seconds == "0")
    {
        let seen = "BOOT_WATCHDOG_TIMEOUT is not set: a transfer that stops leaves the board dark until its power is cut";
        found(CauseKind::NoBootWatchdog, seen.into());
    }
    if let Some(most) = fact("MAX_RESTARTS").filter(|most| *most != "-1") {
        found(CauseKind::GivesUp, format!("MAX_RESTARTS={most}: after so many rounds the board stays dark"));
    }
    let built = fact("build-timestamp").and_then(|text| text.parse::<u64>().ok());
    if built.is_some_and(|built| built != 0 && built < OLD_BEFORE_UNIX) {
        found(CauseKind::OldBootloader, "the bootloader is older than 2022-04-22".into());
    }
    for name in ["CLIENT_IP", "TFTP_IP"] {
        if let Some(address) = fact(name).filter(|address| !address.is_empty()) {
            found(
                CauseKind::FixedAddress,
                format!("{name}={address}: the board does not take this from DHCP"),
            );
        }
    }
    findings
}

fn of_order(order: &[Mode], said: &str, disk: Option<&str>) -> Vec<Finding> {
    let place = |wanted: Mode| order.iter().position(|mode| *mode == wanted);
    let (card, network, usb) = (place(Mode::Card), place(Mode::Network), place(Mode::Usb));
    let mut findings = Vec::new();
    let mut found = |kind, seen: String| findings.push(Finding { kind, seen });
    let Some(network) = network else {
        found(CauseKind::BootOrderUnreachable, format!("{said} never asks the network"));
        return findings;
    };
    match card {
        Some(card) if card < network => {
            let seen =
                "asks the card before the network: once the card is written, the node does not come back";
            found(CauseKind::BootOrderUnreachable, format!("{said} {seen}"));
        }
        Some(_) => {}
        None => found(CauseKind::BootOrderNoCard, format!("{said} never asks the card")),
    }
    // With a disk in it the one is never reached, or the other.
    if let (Some(usb), Some(disk)) = (usb, disk)
        && (usb < network || card.is_some_and(|card| usb < card))
    {
        let skipped = if usb < network { "the network" } else { "the card" };
        found(
            CauseKind::UsbFirst,
            format!("{said} asks USB before {skipped}, and a disk is plugged in ({disk})"),
        );
    }
    if order.last() != Some(&Mode::Again) {
        let seen = "does not begin anew in the end: a board that finds nothing once stays dark until its power is cut";
        found(CauseKind::GivesUp, format!("{said} {seen}"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const PI4: &str = "Raspberry Pi 4 Model B Rev 1.4";

    fn kinds(model: &str, facts: &[(&str, &str)]) -> Vec<CauseKind> {
        let facts: Vec<_> =
            facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        examine(model, &facts).into_iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn boot_orders_are_read_from_their_lowest_digit() {
        use CauseKind::*;
        for (order, expected) in [
            ("0xf12", vec![]),
            ("0xF12", vec![]),
            ("0xf412", vec![]),
            ("0xf142", vec![]),
            ("0xf124", vec![]),
            ("0xf41", vec![BootOrderUnreachable]),
            ("0xf21", vec![BootOrderUnreachable]),
            ("0xf31", vec![BootOrderUnreachable]),
            ("0xf231", vec![BootOrderUnreachable]),
            ("0xf2", vec![BootOrderNoCard]),
            ("0xe12", vec![GivesUp]),
            ("0x12", vec![GivesUp]),
            ("twelve", vec![BootOrderUnreachable]),
        ] {
            assert_eq!(kinds(PI4, &[("BOOT_ORDER", order)]), expected, "{order}");
        }
        assert_eq!(
            kinds(PI4, &[("BOOT_UART", "0")]),
            [BootOrderUnreachable],
            "what is not set is the usual order"
        );
        assert_eq!(kinds(PI4, &[("boot-mode", "2")]), [], "what cannot be read is no finding");
    }

    #[test]
    fn a_disk_counts_where_it_comes_first() {
        use CauseKind::*;
        let disk = ("usb-storage", "SanDisk Ultra");
        for (order, expected) in [("0xf412", vec![]), ("0xf142", vec![UsbFirst]), ("0xf124", vec![UsbFirst])]
        {
            assert_eq!(kinds(PI4, &[("BOOT_ORDER", order), disk]), expected, "{order}");
        }
        assert_eq!(kinds("Raspberry Pi 3 Model B Plus Rev 1.3", &[disk]), [UsbFirst]);
        assert_eq!(kinds("Raspberry Pi 3 Model B Plus Rev 1.3", &[]), []);
    }

    #[test]
    fn settings_that_leave_a_board_dark_or_elsewhere_are_found() {
        use CauseKind::*;
        let with = |model, more| kinds(model, &[("BOOT_ORDER", "0xf12"), more]);
        assert_eq!(with(PI4, ("WAIT_FOR_POWER_BUTTON", "1")), [PowerButton]);
        assert_eq!(with(PI4, ("MAX_RESTARTS", "3")), [GivesUp]);
        assert_eq!(with(PI4, ("MAX_RESTARTS", "-1")), []);
        assert_eq!(with(PI4, ("TFTP_IP", "10.0.0.9")), [FixedAddress]);
        assert_eq!(with(PI4, ("build-timestamp", "1600000000")), [OldBootloader]);
        assert_eq!(with("Raspberry Pi 5 Model B Rev 1.0", ("NET_INSTALL_ENABLED", "0")), [NoBootWatchdog]);
        assert_eq!(with("Raspberry Pi 5 Model B Rev 1.0", ("BOOT_WATCHDOG_TIMEOUT", "120")), []);
    }

    #[test]
    fn a_site_refuses_what_it_says() {
        let finding = |kind| Finding { kind, seen: "seen".into() };
        let (hard, soft) = (finding(CauseKind::BootOrderUnreachable), finding(CauseKind::GivesUp));
        let usual = Guards::default();
        assert_eq!(usual.objection(std::slice::from_ref(&soft)), None);
        assert!(usual.objection(&[soft.clone(), hard.clone()]).unwrap().is(CauseKind::BootOrderUnreachable));
        let mut turned = Guards::default();
        turned.set(CauseKind::BootOrderUnreachable, Action::Ignore);
        turned.set(CauseKind::GivesUp, Action::Refuse);
        assert!(turned.objection(&[hard, soft]).unwrap().is(CauseKind::GivesUp));
    }
}
