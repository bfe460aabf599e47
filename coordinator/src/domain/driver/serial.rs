//! Settings of the `serial` driver: a relay board on a serial line, see [`crate::power`]. How the bytes of a `raw`
//! board are written down is here, too, so that a wrong one is refused when it is imported.

use super::DriverError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Speeds that serial devices have, in baud.
pub(crate) const SPEEDS: std::ops::RangeInclusive<u32> = 50..=4_000_000;

/// A relay board on a serial line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SerialSettings {
    /// The device, best by its name below `/dev/serial/by-id`.
    pub device: String,
    /// Its speed in baud; the board's usual one if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<u32>,
    /// What the board understands.
    pub board: Board,
}

/// What a relay board understands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Board {
    /// LCUS and its many copies: four bytes a relay, relays from 1, no answer.
    Lcus,
    /// Numato: words and a prompt, relays from 0, states can be read.
    Numato,
    /// Bytes of the operator's.
    Raw(Raw),
}

/// The bytes of a board that has no name here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// What switches on.
    pub on: Bytes,
    /// What switches off.
    pub off: Bytes,
}

/// Bytes in hexadecimal with spaces between them, such as `A0 {port} 01 {sum}`.
///
/// `{port}` is the port's number as a byte, `{sum}` the low byte of the sum of all bytes before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bytes {
    /// The same for every port, but for its number.
    AllPorts(String),
    /// Some for each port.
    EachPort(BTreeMap<String, String>),
}

/// Why there are no bytes to send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    /// The port has none.
    #[error("no bytes are given for port {0}")]
    NoPort(String),
    /// A port that is no byte.
    #[error("port {0} is no number from 0 to 255")]
    NotANumber(String),
    /// A word that is no byte.
    #[error("`{0}` is no byte")]
    NotAByte(String),
    /// Nothing to send.
    #[error("there are no bytes")]
    Empty,
}

impl Bytes {
    /// The bytes for `port`.
    ///
    /// # Errors
    /// Every [`BytesError`].
    pub fn of_port(&self, port: &str) -> Result<Vec<u8>, BytesError> {
        let text = match self {
            Bytes::AllPorts(text) => text,
            Bytes::EachPort(texts) => texts.get(port).ok_or_else(|| BytesError::NoPort(port.into()))?,
        };
        let mut bytes: Vec<u8> = Vec::new();
        for word in text.split_ascii_whitespace() {
            bytes.push(match word {
                "{port}" => port.parse().map_err(|_| BytesError::NotANumber(port.into()))?,
                "{sum}" => bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)),
                hex if hex.len() == 2 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                    u8::from_str_radix(hex, 16).expect("two hex digits are a byte")
                }
                other => return Err(BytesError::NotAByte(other.into())),
            });
        }
        if bytes.is_empty() { Err(BytesError::Empty) } else { Ok(bytes) }
    }

    fn check(&self) -> Result<(), BytesError> {
        match self {
            Bytes::AllPorts(_) => self.of_port("1").map(drop),
            Bytes::EachPort(texts) => texts.keys().try_for_each(|port| self.of_port(port).map(drop)),
        }
    }
}

/// Relays of Numato's largest board.
const NUMATO_RELAYS: u8 = 32;

impl SerialSettings {
    /// An outlet in its one form: a relay's number without zeros before it, or the name that its bytes have.
    pub(super) fn port(&self, port: &str) -> Result<String, String> {
        let numbered = |numbers: std::ops::RangeInclusive<u8>| {
            let number = port.parse().ok().filter(|number| numbers.contains(number));
            let allowed = || format!("a relay from {} to {}", numbers.start(), numbers.end());
            number.map(|number: u8| number.to_string()).ok_or_else(allowed)
        };
        match &self.board {
            Board::Lcus => numbered(1..=u8::MAX),
            Board::Numato => numbered(0..=NUMATO_RELAYS - 1),
            Board::Raw(Raw { on, off }) => match (on, off) {
                (Bytes::AllPorts(_), Bytes::AllPorts(_)) => numbered(0..=u8::MAX),
                (on, off) => {
                    let sendable = |bytes: &Bytes| bytes.of_port(port).map_err(|error| error.to_string());
                    sendable(on).and(sendable(off)).map(|_| port.to_owned())
                }
            },
        }
    }

    pub(super) fn check(&self) -> Result<(), DriverError> {
        let wrong = |key, found: String, allowed: &str| {
            Err(DriverError { driver: "serial", key, found, allowed: allowed.into() })
        };
        if !self.device.starts_with('/') || self.device.chars().any(char::is_control) {
            return wrong(
                "device",
                format!("`{}`", self.device.escape_debug()),
                "a path such as /dev/serial/by-id/usb-…",
            );
        }
        if let Some(speed) = self.speed.filter(|speed| !SPEEDS.contains(speed)) {
            return wrong("speed", speed.to_string(), "50 to 4000000, such as 9600");
        }
        let Board::Raw(raw) = &self.board else { return Ok(()) };
        for (key, bytes) in [("board.raw.on", &raw.on), ("board.raw.off", &raw.off)] {
            if let Err(error) = bytes.check() {
                let found = format!("wrong: {error}");
                return wrong(
                    key,
                    found,
                    "two hex digits a byte, {port} and {sum}, such as A0 {port} 01 {sum}",
                );
            }
        }
        Ok(())
    }

    /// The speed to use, in baud.
    pub fn speed(&self) -> u32 {
        self.speed.unwrap_or(match self.board {
            Board::Lcus | Board::Raw(_) => 9600,
            // What the vendor's examples open the port with; its USB has no speed of its own.
            Board::Numato => 19200,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Driver;
    use super::*;

    fn board(text: &str) -> Result<SerialSettings, String> {
        let json = format!(r#"{{"serial": {{"device": "/dev/ttyUSB0", "board": {text}}}}}"#);
        let driver: Driver = serde_json::from_str(&json).map_err(|error| error.to_string())?;
        driver.check().map_err(|error| error.to_string())?;
        let again: Driver = serde_json::from_str(&serde_json::to_string(&driver).unwrap()).unwrap();
        assert_eq!(again, driver, "what is stored is what was written");
        match driver {
            Driver::Serial(settings) => Ok(settings),
            other => Err(other.name().into()),
        }
    }

    #[test]
    fn boards_are_names_or_bytes() {
        assert_eq!(board(r#""lcus""#).unwrap().speed(), 9600);
        assert_eq!(board(r#""numato""#).unwrap().board, Board::Numato);
        let same = r#"{"raw": {"on": "A0 {port} 01 {sum}", "off": "a0 {port} 00 {sum}"}}"#;
        let Board::Raw(raw) = board(same).unwrap().board else { panic!("not raw") };
        assert_eq!(raw.on.of_port("2"), Ok(vec![0xa0, 2, 1, 0xa3]));
        assert_eq!(raw.on.of_port("x"), Err(BytesError::NotANumber("x".into())));
        let each = r#"{"raw": {"on": {"left": "41"}, "off": {"left": "61 0d"}}}"#;
        let Board::Raw(raw) = board(each).unwrap().board else { panic!("not raw") };
        assert_eq!(raw.off.of_port("left"), Ok(vec![0x61, 0x0d]));
        assert_eq!(raw.off.of_port("right"), Err(BytesError::NoPort("right".into())));
    }

    #[test]
    fn one_relay_has_one_name() {
        let port = |settings: &str, port: &str| Driver::Serial(board(settings).unwrap()).port(port);
        for (settings, given, expected) in [
            (r#""lcus""#, "01", Some("1")),
            (r#""lcus""#, " 1 ", Some("1")),
            (r#""lcus""#, "0", None),
            (r#""lcus""#, "256", None),
            (r#""lcus""#, "x", None),
            (r#""numato""#, "00", Some("0")),
            (r#""numato""#, "32", None),
            (r#"{"raw": {"on": "A0 {port}", "off": "B0 {port}"}}"#, "007", Some("7")),
            (r#"{"raw": {"on": {"left": "41"}, "off": {"left": "61"}}}"#, "left", Some("left")),
            (r#"{"raw": {"on": {"left": "41"}, "off": {"right": "61"}}}"#, "left", None),
        ] {
            assert_eq!(port(settings, given).ok().as_deref(), expected, "{settings} {given}");
        }
        let error = port(r#""lcus""#, "x").unwrap_err().to_string();
        assert!(error.contains("port `x`") && error.contains("a relay from 1 to 255"), "{error}");
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_is_allowed() {
        let error = board(r#"{"raw": {"on": "A0 0x01", "off": "A0"}}"#).unwrap_err();
        assert!(error.contains("`board.raw.on`") && error.contains("`0x01` is no byte"), "{error}");
        let error = board(r#"{"raw": {"on": "A0", "off": " "}}"#).unwrap_err();
        assert!(error.contains("`board.raw.off`") && error.contains("no bytes"), "{error}");
        assert!(board(r#""arduino""#).is_err());
        let wrong = SerialSettings { device: "ttyUSB0".into(), speed: None, board: Board::Lcus };
        assert!(wrong.check().unwrap_err().to_string().contains("`device`"));
        let wrong = SerialSettings { device: "/dev/ttyUSB0".into(), speed: Some(3), board: Board::Lcus };
        assert!(wrong.check().unwrap_err().to_string().contains("`speed`"));
    }
}
