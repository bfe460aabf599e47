//! The only place that knows topic strings. Levels are `[a-z0-9_-]`, never empty, without dots.

use crate::id::Serial;
use alloc::format;
use alloc::string::String;

/// The first level of every topic.
const ROOT: &str = "piseduce";

/// The topics of one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site(String);

/// A topic of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Commands to the agent of a node.
    Command(Serial),
    /// Reports of the agent of a node.
    Report(Serial),
    /// Heartbeats of the agent of a node.
    Beat(Serial),
    /// The last will of the agent of a node.
    Link(Serial),
    /// "Say hello" to every agent.
    Announce,
    /// The retained status of the node with this name.
    Status(String),
    /// One message a state change.
    Event,
    /// Whether the coordinator is online.
    Coordinator,
}

/// A name that cannot be a topic level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be part of a topic: 1 to 63 characters of a-z, 0-9, `-` and `_` are expected")]
pub struct LevelError(String);

/// Checks that `text` can be one level of a topic; node and site names must pass.
pub fn check_level(text: &str) -> Result<(), LevelError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    match (1..=63).contains(&text.len()) && text.bytes().all(fits) {
        true => Ok(()),
        false => Err(LevelError(text.into())),
    }
}

impl Site {
    /// The site of this name.
    ///
    /// # Errors
    /// When the name cannot be a topic level.
    pub fn new(name: &str) -> Result<Self, LevelError> {
        check_level(name).map(|()| Site(name.into()))
    }

    /// The site's name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The topic as a string.
    pub fn render(&self, topic: &Topic) -> String {
        let site = &self.0;
        match topic {
            Topic::Command(serial) => format!("{ROOT}/{site}/node/{serial}/command"),
            Topic::Report(serial) => format!("{ROOT}/{site}/node/{serial}/report"),
            Topic::Beat(serial) => format!("{ROOT}/{site}/node/{serial}/beat"),
            Topic::Link(serial) => format!("{ROOT}/{site}/node/{serial}/link"),
            Topic::Announce => format!("{ROOT}/{site}/announce"),
            Topic::Status(node) => format!("{ROOT}/{site}/status/{node}"),
            Topic::Event => format!("{ROOT}/{site}/event"),
            Topic::Coordinator => format!("{ROOT}/{site}/coordinator"),
        }
    }

    /// The topic that this string is, if it is one of this site.
    pub fn parse(&self, text: &str) -> Option<Topic> {
        let levels =
            text.strip_prefix(ROOT)?.strip_prefix('/')?.strip_prefix(self.name())?.strip_prefix('/')?;
        let mut levels = levels.split('/');
        let topic = match (levels.next()?, levels.next(), levels.next()) {
            ("node", Some(serial), Some(last)) => {
                let serial = serial.parse().ok()?;
                match last {
                    "command" => Topic::Command(serial),
                    "report" => Topic::Report(serial),
                    "beat" => Topic::Beat(serial),
                    "link" => Topic::Link(serial),
                    _ => return None,
                }
            }
            ("status", Some(node), None) if check_level(node).is_ok() => Topic::Status(node.into()),
            ("announce", None, None) => Topic::Announce,
            ("event", None, None) => Topic::Event,
            ("coordinator", None, None) => Topic::Coordinator,
            _ => return None,
        };
        // One spelling only: upper-case serials or trailing levels are not this topic.
        (self.render(&topic) == text).then_some(topic)
    }

    /// The filters by which the coordinator hears every agent.
    pub fn agent_filters(&self) -> [String; 3] {
        ["report", "beat", "link"].map(|last| format!("{ROOT}/{}/node/+/{last}", self.0))
    }

    /// The filter of every status topic.
    pub fn status_filter(&self) -> String {
        format!("{ROOT}/{}/status/+", self.0)
    }

    /// The filter of everything at this site.
    pub fn everything(&self) -> String {
        format!("{ROOT}/{}/#", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_parses_back_from_its_string() {
        let site = Site::new("main").unwrap();
        let serial = Serial(0x1000_0000_0000_00ab);
        for topic in [
            Topic::Command(serial),
            Topic::Report(serial),
            Topic::Beat(serial),
            Topic::Link(serial),
            Topic::Announce,
            Topic::Status("pi-1".into()),
            Topic::Event,
            Topic::Coordinator,
        ] {
            assert_eq!(site.parse(&site.render(&topic)), Some(topic));
        }
    }

    #[test]
    fn what_is_not_exactly_a_topic_of_the_site_is_none() {
        let site = Site::new("main").unwrap();
        for text in [
            "",
            "piseduce",
            "piseduce/main",
            "piseduce/main/",
            "piseduce/mainx/event",
            "piseduce/lab/event",
            "piseduce/main/event/",
            "piseduce/main/event/x",
            "piseduce/main/node/100000000000000AB/report",
            "piseduce/main/node/10000000000000AB/report",
            "piseduce/main/node/10000000000000ab/reports",
            "piseduce/main/node/10000000000000ab/report/x",
            "piseduce/main/status/pi.1",
            "piseduce/main/status/+",
        ] {
            assert_eq!(site.parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_site_name_is_one_topic_level() {
        for wrong in ["", "a/b", "Main", "a.b", "+", "#", "a b"] {
            assert!(Site::new(wrong).is_err(), "{wrong}");
        }
    }
}
