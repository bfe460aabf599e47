//! Settings of a node's console: one format for the inventory, the API and the store, as with drivers.

use super::driver::serial::SPEEDS;
use serde::{Deserialize, Serialize};

/// The serial device at the other end of a node's UART.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleSettings {
    /// The device on the head node, best by its name below `/dev/serial/by-id`.
    pub device: String,
    /// Its speed in baud.
    #[serde(default = "usual_speed")]
    pub speed: u32,
    /// Whether people may type.
    #[serde(default)]
    pub write: bool,
}

/// What firmware and kernels of a Raspberry Pi use unless they are told otherwise.
fn usual_speed() -> u32 {
    115_200
}

/// What cannot be a console.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleSettingsError {
    /// The device is no path.
    #[error("its device is `{}`; allowed: a path such as /dev/serial/by-id/usb-…", .0.escape_debug())]
    Device(String),
    /// No such speed.
    #[error("its speed is {0}; allowed: 50 to 4000000, such as 115200")]
    Speed(u32),
}

impl ConsoleSettings {
    /// Checks what can be checked without the device.
    ///
    /// # Errors
    /// Every [`ConsoleSettingsError`].
    pub fn check(&self) -> Result<(), ConsoleSettingsError> {
        if !self.device.starts_with('/') || self.device.chars().any(char::is_control) {
            return Err(ConsoleSettingsError::Device(self.device.clone()));
        }
        if !SPEEDS.contains(&self.speed) {
            return Err(ConsoleSettingsError::Speed(self.speed));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_needs_a_device_and_has_the_usual_speed() {
        let settings = |json: &str| serde_json::from_str::<ConsoleSettings>(json).unwrap();
        let usual = settings(r#"{"device": "/dev/ttyUSB0"}"#);
        assert_eq!((usual.speed, usual.write, usual.check()), (115_200, false, Ok(())));
        assert!(settings(r#"{"device": "ttyUSB0"}"#).check().is_err());
        assert!(settings(r#"{"device": "/dev/ttyUSB0", "speed": 1}"#).check().is_err());
    }
}
