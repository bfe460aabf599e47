//! Which of several partitions with a system becomes `/`: the one whose own fstab says so; of several such, or of
//! none, the largest; of equals, the first. Images with a second system (for rescue, or for updates) are why.
//! Pure; knows partitions by their names only. See `inspect.rs`. Source: fstab(5).

use super::family::{Tree, text};
use super::volume::VolumeError;
use std::cmp::Reverse;

/// By what an fstab may call a partition.
pub(super) struct Names<'a> {
    pub(super) number: u8,
    pub(super) part_uuid: &'a str,
    pub(super) uuid: &'a str,
    pub(super) label: Option<&'a str>,
}

/// A partition that could become `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) number: u8,
    pub(super) bytes: u64,
    /// Whether its own fstab says that it becomes `/`.
    pub(super) names_itself: bool,
}

/// Whether the fstab of the system in `tree` says that `/` is the partition with these names.
pub(super) fn names_itself(tree: &dyn Tree, names: &Names<'_>) -> Result<bool, VolumeError> {
    Ok(text(tree, "/etc/fstab")?.is_some_and(|fstab| says(&fstab, names)))
}

fn says(fstab: &str, names: &Names<'_>) -> bool {
    let lines = fstab.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|fields| fields.get(1) == Some(&"/")).any(|fields| means(fields[0], names))
}

/// Whether the first field of a line means the partition with these names.
fn means(field: &str, names: &Names<'_>) -> bool {
    if let Some((key, value)) = field.split_once('=') {
        let value = value.trim_matches('"');
        return match key {
            "PARTUUID" => value.eq_ignore_ascii_case(names.part_uuid),
            "UUID" => value.eq_ignore_ascii_case(names.uuid),
            "LABEL" => Some(value) == names.label,
            _ => false,
        };
    }
    // The first SD card, USB disk or NVMe disk: mmcblk0p2, sda2, nvme0n1p2.
    let disks = ["/dev/mmcblk0p", "/dev/sda", "/dev/nvme0n1p"];
    disks
        .iter()
        .any(|disk| field.strip_prefix(disk).and_then(|number| number.parse().ok()) == Some(names.number))
}

/// The number of the partition that becomes `/`, and why that one if there were others.
pub(super) fn choose(candidates: &[Candidate]) -> Option<(u8, Option<String>)> {
    let first = |candidate: &&Candidate| (candidate.names_itself, candidate.bytes, Reverse(candidate.number));
    let chosen = candidates.iter().max_by_key(first)?;
    let others = || candidates.iter().filter(|other| other.number != chosen.number);
    let Some(best) = others().max_by_key(first) else { return Some((chosen.number, None)) };
    let why = match (chosen.names_itself == best.names_itself, chosen.bytes == best.bytes) {
        (false, _) => "its own fstab says so",
        (true, false) => "it is the largest",
        (true, true) => "it comes first",
    };
    let all: Vec<String> = candidates.iter().map(|candidate| candidate.number.to_string()).collect();
    let all = all.join(" and ");
    Some((
        chosen.number,
        Some(format!("of the partitions {all} with a system, {} is /: {why}", chosen.number)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> = Names {
        number: 3,
        part_uuid: "1234abcd-03",
        uuid: "0a1b2c3d-0000-4000-8000-00000000000f",
        label: Some("b"),
    };

    #[test]
    fn an_fstab_may_call_a_partition_by_any_name() {
        for field in [
            "PARTUUID=1234abcd-03",
            "PARTUUID=\"1234ABCD-03\"",
            "UUID=0a1b2c3d-0000-4000-8000-00000000000f",
            "LABEL=b",
            "/dev/mmcblk0p3",
            "/dev/sda3",
            "/dev/nvme0n1p3",
        ] {
            let fstab = format!("# <file system>\nproc /proc proc\n{field}  /  ext4 defaults 0 1\n");
            assert!(says(&fstab, &NAMES), "{field}");
            assert!(!says(&fstab.replace(" / ", " /home "), &NAMES), "{field}");
        }
        for field in ["PARTUUID=1234abcd-02", "LABEL=a", "/dev/mmcblk0p2", "/dev/mmcblk0", "b", "#LABEL=b"] {
            assert!(!says(&format!("{field} / ext4"), &NAMES), "{field}");
        }
        assert!(!says("", &NAMES) && !says("/", &NAMES));
    }

    #[track_caller]
    fn check(candidates: &[(u8, u64, bool)], number: u8, why: Option<&str>) {
        let candidates: Vec<Candidate> = candidates
            .iter()
            .map(|(number, bytes, names_itself)| Candidate {
                number: *number,
                bytes: *bytes,
                names_itself: *names_itself,
            })
            .collect();
        let chosen = choose(&candidates);
        assert_eq!(chosen, Some((number, why.map(Into::into))));
    }

    #[test]
    fn the_root_is_the_one_that_says_so_then_the_largest_then_the_first() {
        assert_eq!(choose(&[]), None);
        check(&[(2, 10, false)], 2, None);
        let says = "of the partitions 2 and 3 with a system, 3 is /: its own fstab says so";
        check(&[(2, 99, false), (3, 10, true)], 3, Some(says));
        let largest = "of the partitions 2 and 3 with a system, 3 is /: it is the largest";
        check(&[(2, 10, true), (3, 11, true)], 3, Some(largest));
        check(&[(2, 10, false), (3, 11, false)], 3, Some(largest));
        let first = "of the partitions 2 and 3 and 5 with a system, 2 is /: it comes first";
        check(&[(2, 10, true), (3, 10, true), (5, 10, false)], 2, Some(first));
    }
}
