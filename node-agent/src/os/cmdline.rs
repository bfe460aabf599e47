//! The kernel command line on a boot partition, without what would undo the deployment at the first boot.
//!
//! Raspberry Pi OS grows its root and draws a new disk id then: bookworm by `init=…/firstboot`, trixie by
//! the word ` resize` (raspberrypi-sys-mods). Both were done already, and the disk id must stay.

/// Words that start a first-boot program of Raspberry Pi OS.
const DISARMED: [&str; 2] = ["resize", "init=/usr/lib/raspberrypi-sys-mods/firstboot"];

/// The command line `old` without those words; still one line.
pub fn disarmed(old: &str) -> String {
    let words = old.split_ascii_whitespace().filter(|word| !DISARMED.contains(word));
    words.collect::<Vec<_>>().join(" ") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_boot_programs_go_and_everything_else_stays_in_one_line() {
        for (old, new) in [
            (
                "console=tty1 root=PARTUUID=1234abcd-02 rootfstype=ext4 rootwait resize\n",
                "console=tty1 root=PARTUUID=1234abcd-02 rootfstype=ext4 rootwait\n",
            ),
            (
                "console=serial0,115200 quiet init=/usr/lib/raspberrypi-sys-mods/firstboot splash",
                "console=serial0,115200 quiet splash\n",
            ),
            (
                "resize=1 init=/sbin/init\nroot=LABEL=writable",
                "resize=1 init=/sbin/init root=LABEL=writable\n",
            ),
        ] {
            assert_eq!(disarmed(old), new);
            assert_eq!(disarmed(new), new);
        }
    }
}
