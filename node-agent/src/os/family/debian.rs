//! Debian and its relatives on a Pi: Raspberry Pi OS (bookworm, trixie), Ubuntu Server, Debian's images.
//!
//! What each of them does at its first boot, and how it is kept from undoing the deployment, is told by
//! which files it has, not by its name.

use super::{ConfigureError, Family, Settings};
use crate::card::fat::Fat;
use crate::os::{cloud_init, first_boot, hostname, ssh, time, users};
use crate::tree::{Ownership, Tree};
use piseduce_protocol::boot_files;
use piseduce_protocol::bundle::HostKey;

pub(super) struct Debian;

const FILE: Ownership = Ownership::root(0o644);
const PROGRAM: Ownership = Ownership::root(0o755);
const SECRET: Ownership = Ownership::root(0o600);

/// Units that would undo or hold up what was configured, masked where they exist: the dialogue for a
/// first user, new host keys, growth of the root, and the updater of the bootloader's EEPROM, whose
/// settings the rack depends on.
const MASKED_UNITS: [&str; 4] = [
    "userconfig.service",
    "regenerate_ssh_host_keys.service",
    "rpi-resize.service",
    "rpi-eeprom-update.service",
];

/// Raspberry Pi OS enables sshd at boot when the boot partition has a file `ssh`, by this unit.
const SSH_SWITCH_UNIT: &str = "sshswitch.service";

/// Where packages install units, before and after the merge of `/lib` into `/usr/lib`.
const UNIT_DIRECTORIES: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

const TIMESYNC_CLOCK: &str = "/var/lib/systemd/timesync/clock";
const FAKE_HWCLOCK: &str = "/etc/fake-hwclock.data";

impl Family for Debian {
    fn configure_system(&self, root: &Tree, settings: Settings<'_>) -> Result<(), ConfigureError> {
        let name = settings.bundle.host_name.as_str();
        if !hostname::is_valid(name) {
            return Err(ConfigureError::Impossible("host name"));
        }
        root.replace("/etc/hostname", format!("{name}\n").as_bytes(), FILE)?;
        let hosts = root.read_text("/etc/hosts")?.unwrap_or_default();
        root.replace("/etc/hosts", hostname::hosts(&hosts, name).as_bytes(), FILE)?;
        set_host_keys(root, &settings.bundle.host_keys)?;
        set_clock(root, settings.unix_ms)?;
        for unit in MASKED_UNITS {
            if has_unit(root, unit)? {
                root.link(&format!("/etc/systemd/system/{unit}"), "/dev/null")?;
            }
        }
        if has_unit(root, SSH_SWITCH_UNIT)? && has_unit(root, "ssh.service")? {
            root.make_directory("/etc/systemd/system/multi-user.target.wants", PROGRAM)?;
            root.link(
                "/etc/systemd/system/multi-user.target.wants/ssh.service",
                "/lib/systemd/system/ssh.service",
            )?;
        }
        if root.exists("/etc/cloud/cloud.cfg.d")? {
            root.write(cloud_init::CONFIGURATION_PATH, cloud_init::CONFIGURATION.as_bytes(), FILE)?;
        }
        Ok(())
    }

    fn configure_boot(&self, boot: &Fat<'_, '_>, settings: Settings<'_>) -> Result<(), ConfigureError> {
        if let Some(old) = boot.read("cmdline.txt")? {
            let new = boot_files::disarmed(&String::from_utf8_lossy(&old));
            boot.write("cmdline.txt", new.as_bytes())?;
        }
        if boot.read(cloud_init::USER_DATA_NAME)?.is_some() {
            boot.write(cloud_init::USER_DATA_NAME, cloud_init::USER_DATA.as_bytes())?;
            let meta_data = cloud_init::meta_data(settings.ticket);
            boot.write(cloud_init::META_DATA_NAME, meta_data.as_bytes())?;
        }
        Ok(())
    }

    fn configure_user(&self, root: &Tree, settings: Settings<'_>) -> Result<(), ConfigureError> {
        let bundle = settings.bundle;
        let passwd = root.read_text("/etc/passwd")?.ok_or(ConfigureError::Lacks("no /etc/passwd"))?;
        let user = users::own_user(&passwd)
            .ok_or(ConfigureError::Lacks("no user with id 1000 and a home directory in /etc/passwd"))?;
        let hash = bundle.password_hash.as_deref();
        if hash.is_some_and(|hash| hash.contains([':', '\n'])) {
            return Err(ConfigureError::Impossible("password hash"));
        }
        let shadow = root.read_text("/etc/shadow")?.ok_or(ConfigureError::Lacks("no /etc/shadow"))?;
        let shadow = users::set_password(&shadow, &user.name, hash, time::day(settings.unix_ms))
            .ok_or(ConfigureError::Lacks("no line for the user with id 1000 in /etc/shadow"))?;
        root.replace("/etc/shadow", shadow.as_bytes(), Ownership::root(0o640))?;

        let mut own = Ownership { user: user.id, group: user.group, mode: 0o700 };
        if !root.exists(&user.home)? {
            root.make_directory(&user.home, own)?;
        }
        let directory = format!("{}/.ssh", user.home);
        root.make_directory(&directory, own)?;
        own.mode = 0o600;
        let keys = ssh::authorized_keys(&bundle.authorized_keys);
        root.write(&format!("{directory}/authorized_keys"), keys.as_bytes(), own)?;
        install_first_boot(root, settings)
    }
}

fn has_unit(root: &Tree, unit: &str) -> Result<bool, ConfigureError> {
    for directory in UNIT_DIRECTORIES {
        if root.exists(&format!("{directory}/{unit}"))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the image's host keys and writes the run's.
fn set_host_keys(root: &Tree, keys: &[HostKey]) -> Result<(), ConfigureError> {
    for name in root.names("/etc/ssh")?.into_iter().filter(|name| ssh::is_host_key(name)) {
        root.remove(&format!("/etc/ssh/{name}"))?;
    }
    if !keys.is_empty() && !root.exists("/etc/ssh")? {
        root.make_directory("/etc/ssh", PROGRAM)?;
    }
    for key in keys {
        let name = ssh::host_key_name(&key.algorithm).ok_or(ConfigureError::Impossible("host key"))?;
        root.write(&format!("/etc/ssh/{name}"), ssh::with_newline(&key.private).as_bytes(), SECRET)?;
        root.write(&format!("/etc/ssh/{name}.pub"), ssh::with_newline(&key.public).as_bytes(), FILE)?;
    }
    Ok(())
}

/// Lets the environment's clock begin now instead of in 1970 or on the day of its build: systemd-timesyncd
/// starts from when its clock file was changed, fake-hwclock from what its file says.
fn set_clock(root: &Tree, unix_ms: u64) -> Result<(), ConfigureError> {
    let (directory, _) = TIMESYNC_CLOCK.rsplit_once('/').expect("a path with directories");
    if root.exists(directory)? {
        let owner = root.ownership(directory)?;
        root.replace(TIMESYNC_CLOCK, b"", Ownership { mode: 0o644, ..owner })?;
        root.set_modified(TIMESYNC_CLOCK, unix_ms / 1000)?;
    }
    if root.exists(FAKE_HWCLOCK)? {
        root.replace(FAKE_HWCLOCK, time::fake_hwclock(unix_ms).as_bytes(), FILE)?;
    }
    Ok(())
}

fn install_first_boot(root: &Tree, settings: Settings<'_>) -> Result<(), ConfigureError> {
    for (path, mode) in first_boot::DIRECTORIES {
        root.make_directory(path, Ownership::root(mode))?;
    }
    for file in first_boot::files(settings.bundle) {
        match file.content {
            Some(content) => root.write(file.path, &content, Ownership::root(file.mode))?,
            None => root.remove(file.path)?,
        }
    }
    for (path, target) in first_boot::LINKS {
        root.link(path, target)?;
    }
    Ok(())
}
