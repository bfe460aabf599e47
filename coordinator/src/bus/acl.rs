//! Who may publish, subscribe and leave a last will where. Pure: no socket, no router, no state.
//!
//! An agent speaks and hears on its own topics, a monitor hears what is meant for everybody, the coordinator has
//! everything at its site. What is not allowed here is refused by `conversation` and `handshake`.

use super::identity::Identity;
use piseduce_protocol::topic::{Site, Topic};
use rumqttd::protocol::{Filter, QoS, RetainForwardRule, valid_filter, valid_topic};

/// What one identity may do at one site.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) site: Site,
    pub(super) identity: Identity,
}

/// A subscription that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// The filter for the router, which is one of few: it never forgets one. None for agents, who share a line there.
    pub(super) route: Option<String>,
    /// What the SUBACK says.
    pub(super) qos: QoS,
}

/// A filter as the router gets it: QoS and packet ids are the gate's own business.
pub(super) fn router_filter(path: &str) -> Filter {
    Filter {
        path: path.to_owned(),
        qos: QoS::AtMostOnce,
        nolocal: false,
        preserve_retain: false,
        retain_forward_rule: RetainForwardRule::OnEverySubscribe,
    }
}

impl Access {
    /// Whether a message may be published on `topic`, retained or not.
    pub(super) fn may_publish(&self, topic: &str, retain: bool) -> bool {
        match &self.identity {
            Identity::Coordinator => self.is_topic_of_site(topic),
            Identity::Agent { serial: own, .. } => {
                let topic = self.site.parse(topic);
                let owner = match topic {
                    Some(Topic::Report(serial) | Topic::Beat(serial) | Topic::Link(serial)) => Some(serial),
                    _ => None,
                };
                owner == Some(*own) && !retain
            }
            Identity::Monitor { .. } => false,
        }
    }

    /// Whether a last will may be left on `topic`.
    pub(super) fn may_leave_will(&self, topic: &str, retain: bool) -> bool {
        match &self.identity {
            Identity::Coordinator => self.is_topic_of_site(topic),
            Identity::Agent { serial, .. } => self.site.parse(topic) == Some(Topic::Link(*serial)) && !retain,
            Identity::Monitor { .. } => false,
        }
    }

    /// What a subscription to `filter` gets, if it is allowed.
    ///
    /// QoS 2 is never granted. A monitor's wildcard gets QoS 0: what a slow one misses is replaced by the next status.
    pub(super) fn grant(&self, filter: &str, asked: QoS) -> Option<Grant> {
        let qos = if asked == QoS::AtMostOnce { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let topic = self.site.parse(filter);
        let qos = match &self.identity {
            Identity::Coordinator => (valid_filter(filter) && self.is_below_site(filter)).then_some(qos),
            Identity::Agent { serial, .. } => match topic {
                Some(Topic::Command(of)) => (of == *serial).then_some(qos),
                Some(Topic::Announce) => Some(qos),
                _ => None,
            },
            Identity::Monitor { .. } => match topic {
                Some(Topic::Status(_) | Topic::Event | Topic::Coordinator) => Some(qos),
                _ => self.is_every_status(filter).then_some(QoS::AtMostOnce),
            },
        }?;
        let route = match (&self.identity, &topic) {
            (Identity::Agent { .. }, _) => None,
            // Names cost the router nothing, those of nodes that do not exist neither: the session picks what it wants.
            (Identity::Monitor { .. }, Some(Topic::Status(_))) => Some(self.status_tree()),
            _ if self.is_every_status(filter) => Some(self.status_tree()),
            _ => Some(filter.to_owned()),
        };
        Some(Grant { route, qos })
    }

    /// Whether `text` starts with the levels of the site and goes on after them.
    fn is_below_site(&self, text: &str) -> bool {
        let everything = self.site.everything();
        let site = everything.trim_end_matches('#');
        text.strip_prefix(site).is_some_and(|rest| !rest.is_empty()) && !text.contains('\0')
    }

    fn is_topic_of_site(&self, topic: &str) -> bool {
        self.is_below_site(topic) && valid_topic(topic)
    }

    fn is_every_status(&self, filter: &str) -> bool {
        filter == self.site.status_filter() || filter == self.status_tree()
    }

    /// The filter `…/status/#`. Nothing is published on `…/status` itself, so it is the same as `…/status/+`.
    fn status_tree(&self) -> String {
        self.site.status_filter().replace('+', "#")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piseduce_protocol::id::{BootNumber, Serial};

    const OWN: &str = "piseduce/main/node/10000000000000ab";
    const OTHER: &str = "piseduce/main/node/10000000000000ac";

    fn access(identity: Identity) -> Access {
        Access { site: Site::new("main").unwrap(), identity }
    }

    fn agent() -> Access {
        access(Identity::Agent { serial: Serial(0x1000_0000_0000_00ab), boot: BootNumber(1) })
    }

    fn monitor() -> Access {
        access(Identity::Monitor { name: "alice".into() })
    }

    /// Topics and filters of every kind, right and wrong ones.
    fn everything_anybody_could_ask_for() -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for node in [OWN, OTHER, "piseduce/lab/node/10000000000000ab", "piseduce/main/node/+", "+/+/+/+"] {
            for last in ["command", "report", "beat", "link", "+", "#", "", "report/x", "COMMAND"] {
                all.push(format!("{node}/{last}"));
            }
        }
        for site in ["piseduce/main", "piseduce/lab", "piseduce/+", "+/main", "piseduce", "other/main"] {
            let lasts = ["announce", "event", "coordinator", "status/pi-1", "status/+", "status/#", "status"];
            for last in lasts.into_iter().chain(["#", "+", "+/+", "", "status/pi.1", "status/a/b", "x"]) {
                all.push(format!("{site}/{last}"));
            }
        }
        for odd in ["", "#", "+", "/", "$SYS/#", "$SYS/broker", "piseduce/main", "piseduce/main/e\0"] {
            all.push(odd.to_owned());
            all.push(format!("$share/group/{odd}"));
        }
        all.push("$share/group/piseduce/main/status/+".to_owned());
        all
    }

    fn check(allowed: impl Fn(&str) -> bool, expected: &[&str]) {
        let all = everything_anybody_could_ask_for();
        let found: Vec<&str> = all.iter().map(String::as_str).filter(|text| allowed(text)).collect();
        assert_eq!(found, expected);
    }

    fn below(prefix: &str, lasts: &[&str]) -> Vec<String> {
        lasts.iter().map(|last| format!("{prefix}/{last}")).collect()
    }

    fn check_owned(allowed: impl Fn(&str) -> bool, expected: &[String]) {
        check(allowed, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn an_agent_speaks_on_its_own_three_topics_only_and_never_retained() {
        check_owned(|topic| agent().may_publish(topic, false), &below(OWN, &["report", "beat", "link"]));
        check(|topic| agent().may_publish(topic, true), &[]);
    }

    #[test]
    fn an_agent_leaves_its_will_on_its_link_topic_only() {
        check_owned(|topic| agent().may_leave_will(topic, false), &below(OWN, &["link"]));
        check(|topic| agent().may_leave_will(topic, true), &[]);
    }

    #[test]
    fn an_agent_hears_its_own_commands_and_the_announcement() {
        let expected = [&below(OWN, &["command"])[..], &below("piseduce/main", &["announce"])].concat();
        check_owned(|filter| agent().grant(filter, QoS::AtLeastOnce).is_some(), &expected);
    }

    #[test]
    fn a_monitor_says_nothing() {
        for retain in [false, true] {
            check(|topic| monitor().may_publish(topic, retain), &[]);
            check(|topic| monitor().may_leave_will(topic, retain), &[]);
        }
    }

    #[test]
    fn a_monitor_hears_status_event_and_coordinator() {
        let allowed = ["event", "coordinator", "status/pi-1", "status/+", "status/#"];
        let heard = |filter: &str| monitor().grant(filter, QoS::AtMostOnce).is_some();
        check_owned(heard, &below("piseduce/main", &allowed));
    }

    #[test]
    fn a_monitors_wildcard_has_qos_0_and_every_status_one_name_in_the_router() {
        let tree = Grant { route: Some("piseduce/main/status/#".into()), qos: QoS::AtMostOnce };
        assert_eq!(monitor().grant("piseduce/main/status/+", QoS::AtLeastOnce), Some(tree.clone()));
        assert_eq!(monitor().grant("piseduce/main/status/#", QoS::ExactlyOnce), Some(tree.clone()));
        let named = monitor().grant("piseduce/main/status/a", QoS::AtLeastOnce).unwrap();
        assert_eq!((named.qos, named.route), (QoS::AtLeastOnce, tree.route));
    }

    #[test]
    fn qos_2_is_granted_as_1() {
        let filter = format!("{OWN}/command");
        assert_eq!(agent().grant(&filter, QoS::ExactlyOnce).unwrap().qos, QoS::AtLeastOnce);
        assert_eq!(agent().grant(&filter, QoS::AtMostOnce).unwrap().qos, QoS::AtMostOnce);
    }

    #[test]
    fn the_coordinator_has_everything_at_its_site_and_nothing_else() {
        let coordinator = access(Identity::Coordinator);
        let all = everything_anybody_could_ask_for();
        for text in &all {
            let at_site =
                text.starts_with("piseduce/main/") && text != "piseduce/main/" && !text.contains('\0');
            assert_eq!(coordinator.grant(text, QoS::AtLeastOnce).is_some(), at_site, "{text}");
            let plain = at_site && !text.contains(['+', '#']);
            assert_eq!(coordinator.may_publish(text, true), plain, "{text}");
            assert_eq!(coordinator.may_leave_will(text, true), plain, "{text}");
        }
        assert!(coordinator.grant("piseduce/main/a#", QoS::AtMostOnce).is_none());
        assert!(coordinator.grant("piseduce/main/#/a", QoS::AtMostOnce).is_none());
    }
}
