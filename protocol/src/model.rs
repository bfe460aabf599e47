//! The models of Raspberry Pis: a closed list, recognised however people or a device tree write them. What depends on the model
//! (addresses, power, guards, boot files) asks here and never compares texts.

use alloc::string::{String, ToString as _};
use core::fmt;

/// A model; a board that is none of these is [`Model::Other`], and gets no special treatment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    /// Raspberry Pi 3 Model A+.
    Pi3APlus,
    /// Raspberry Pi 3 Model B.
    Pi3B,
    /// Raspberry Pi 3 Model B+.
    Pi3BPlus,
    /// Compute Module 3.
    ComputeModule3,
    /// Compute Module 3+.
    ComputeModule3Plus,
    /// Raspberry Pi Zero 2 W.
    Zero2W,
    /// Raspberry Pi 4 Model B.
    Pi4B,
    /// Raspberry Pi 400.
    Pi400,
    /// Compute Module 4.
    ComputeModule4,
    /// Compute Module 4S.
    ComputeModule4S,
    /// Raspberry Pi 5.
    Pi5,
    /// Raspberry Pi 500.
    Pi500,
    /// Compute Module 5.
    ComputeModule5,
    /// Any other board.
    Other,
}

/// What boards with the same boot ROM have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// BCM2837 and its relatives: the boot ROM itself boots over the network.
    Three,
    /// BCM2711: a bootloader in an EEPROM.
    Four,
    /// BCM2712: the same, with a watchdog of its own.
    Five,
    /// Nothing is known of it.
    Unknown,
}

/// Each model, what its device tree calls it (without a revision), and what people write, in lower case without spaces, dashes
/// and the words `raspberry`, `pi` and `model`. Names of device trees: the Linux kernel's `arch/arm*/boot/dts/broadcom`.
const MODELS: [(Model, &str, &[&str]); 14] = [
    (Model::Pi3APlus, "Raspberry Pi 3 Model A Plus", &["3a+"]),
    (Model::Pi3B, "Raspberry Pi 3 Model B", &["3b", "3"]),
    (Model::Pi3BPlus, "Raspberry Pi 3 Model B Plus", &["3b+", "3+"]),
    (Model::ComputeModule3, "Raspberry Pi Compute Module 3", &["cm3"]),
    (Model::ComputeModule3Plus, "Raspberry Pi Compute Module 3 Plus", &["cm3+"]),
    (Model::Zero2W, "Raspberry Pi Zero 2 W", &["zero2w", "zero2"]),
    (Model::Pi4B, "Raspberry Pi 4 Model B", &["4b", "4"]),
    (Model::Pi400, "Raspberry Pi 400", &["400"]),
    (Model::ComputeModule4, "Raspberry Pi Compute Module 4", &["cm4"]),
    (Model::ComputeModule4S, "Raspberry Pi Compute Module 4S", &["cm4s"]),
    (Model::Pi5, "Raspberry Pi 5 Model B", &["5b", "5"]),
    (Model::Pi500, "Raspberry Pi 500", &["500", "500+"]),
    (Model::ComputeModule5, "Raspberry Pi Compute Module 5", &["cm5"]),
    (Model::Other, "other", &["other"]),
];

/// A text names no model of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelUnknown;

impl fmt::Display for ModelUnknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "allowed are 3A+, 3B, 3B+, CM3, CM3+, Zero 2 W, 4B, 400, CM4, CM4S, 5, 500, CM5 and other",
        )
    }
}

impl core::error::Error for ModelUnknown {}

impl core::str::FromStr for Model {
    type Err = ModelUnknown;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let short = short(text);
        let known = MODELS.iter().find(|(_, _, names)| names.contains(&short.as_str()));
        known.map(|(model, ..)| *model).ok_or(ModelUnknown)
    }
}

/// The part of a name that tells models apart.
fn short(text: &str) -> String {
    let text = text.to_lowercase();
    // A device tree ends with `Rev 1.4`, and tells a module without storage as `Lite`.
    let text = text.split(" rev ").next().unwrap_or_default().replace("compute module", "cm");
    let letters: String = text.chars().filter(|c| !c.is_whitespace() && !"-_.()".contains(*c)).collect();
    let letters = letters.replace("raspberry", "").replace("model", "").replace("plus", "+");
    let letters = letters.replace("computemodule", "cm").replace("lite", "");
    letters.strip_prefix("rpi").or(letters.strip_prefix("pi")).unwrap_or(&letters).to_string()
}

impl Model {
    /// The model that `text` names; [`Model::Other`] for one that is not in the list.
    pub fn of(text: &str) -> Model {
        text.parse().unwrap_or(Model::Other)
    }

    /// What its device tree calls it, without a revision.
    pub fn name(self) -> &'static str {
        let known = MODELS.iter().find(|(model, ..)| *model == self);
        known.map_or("other", |(_, name, _)| name)
    }

    /// Its generation.
    pub fn generation(self) -> Generation {
        match self {
            Model::Pi3APlus
            | Model::Pi3B
            | Model::Pi3BPlus
            | Model::ComputeModule3
            | Model::ComputeModule3Plus
            | Model::Zero2W => Generation::Three,
            Model::Pi4B | Model::Pi400 | Model::ComputeModule4 | Model::ComputeModule4S => Generation::Four,
            Model::Pi5 | Model::Pi500 | Model::ComputeModule5 => Generation::Five,
            Model::Other => Generation::Unknown,
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_recognised_however_it_is_written() {
        for (model, texts) in [
            (
                Model::Pi3BPlus,
                &["3b+", "3B+", "Pi 3B+", "Raspberry Pi 3 Model B Plus Rev 1.3", "rpi-3b-plus"][..],
            ),
            (Model::Pi3B, &["3", "Raspberry Pi 3 Model B Rev 1.2", "Raspberry Pi 3", "pi3b"]),
            (Model::Pi4B, &["4", "Pi 4", "4B", "Raspberry Pi 4 Model B Rev 1.4", "raspberry pi 4"]),
            (Model::Pi5, &["5", "Raspberry Pi 5", "Raspberry Pi 5 Model B Rev 1.0"]),
            (Model::ComputeModule3, &["CM3", "Raspberry Pi Compute Module 3 Rev 1.0", "compute-module-3"]),
            (Model::ComputeModule3Plus, &["CM3+", "Raspberry Pi Compute Module 3 Plus Rev 1.0"]),
            (Model::ComputeModule4, &["cm4", "Raspberry Pi Compute Module 4 Rev 1.1", "CM4 Lite"]),
            (Model::ComputeModule4S, &["CM4S", "Raspberry Pi Compute Module 4S Rev 1.0"]),
            (Model::ComputeModule5, &["CM5", "Raspberry Pi Compute Module 5 Lite Rev 1.0"]),
            (Model::Zero2W, &["Zero 2 W", "Raspberry Pi Zero 2 W Rev 1.0", "pi-zero-2w"]),
            (Model::Pi400, &["Raspberry Pi 400 Rev 1.0", "Pi 400"]),
            (Model::Other, &["other", "Other"]),
        ] {
            for text in texts {
                assert_eq!(text.parse(), Ok(model), "{text}");
            }
        }
        for text in ["", "Pi", "6", "Jetson Nano", "Raspberry Pi 44", "3b++", "Raspberry Pi 1 Model B"] {
            assert_eq!(text.parse::<Model>(), Err(ModelUnknown), "{text}");
        }
    }

    #[test]
    fn every_model_reads_back_by_its_own_name() {
        for (model, name, _) in MODELS {
            assert_eq!(name.parse(), Ok(model), "{name}");
            assert_eq!(model.name(), name);
        }
    }
}
