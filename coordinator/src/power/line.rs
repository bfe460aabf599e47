//! The line to a switch: whoever asks it something waits for its turn, so that there is never more than one
//! request in flight. Queue, site recovery and the API share it.

use super::{Answer, PowerError, PowerSwitch};
use crate::domain::switch::Switch;
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use tokio::sync::Mutex;

/// The line to one switch.
#[derive(Clone)]
pub struct Line {
    driver: Arc<dyn PowerSwitch>,
    /// Held for the time of one request.
    turn: Arc<Mutex<()>>,
}

impl Line {
    /// The line to the switch behind `driver`.
    pub fn new(driver: Arc<dyn PowerSwitch>) -> Self {
        Line { driver, turn: Arc::default() }
    }

    /// One request, when it is its turn.
    ///
    /// # Errors
    /// What the driver says.
    pub async fn ask<'a, T>(
        &'a self,
        request: impl FnOnce(&'a dyn PowerSwitch) -> Answer<'a, T>,
    ) -> Result<T, PowerError> {
        let _turn = self.turn.lock().await;
        request(&*self.driver).await
    }

    /// Whether both are lines to the same opened driver.
    pub fn is_same(&self, other: &Line) -> bool {
        Arc::ptr_eq(&self.turn, &other.turn)
    }

    /// What can be known of the switch without asking it.
    pub fn driver(&self) -> &dyn PowerSwitch {
        &*self.driver
    }
}

/// The lines to all switches, by name; for who looks at switches.
#[derive(Clone, Default)]
pub struct Lines {
    all: Arc<RwLock<BTreeMap<String, (Switch, Line)>>>,
}

impl Lines {
    /// These are the switches from now on.
    pub fn set(&self, all: impl IntoIterator<Item = (Switch, Line)>) {
        let all = all.into_iter().map(|(switch, line)| (switch.attributes.name.clone(), (switch, line)));
        *self.all.write().expect("nobody panics while holding the lines") = all.collect();
    }

    /// The switch of this name.
    pub fn get(&self, name: &str) -> Option<(Switch, Line)> {
        self.all.read().expect("nobody panics while holding the lines").get(name).cloned()
    }

    /// All switches, by name.
    pub fn all(&self) -> Vec<(Switch, Line)> {
        self.all.read().expect("nobody panics while holding the lines").values().cloned().collect()
    }
}
