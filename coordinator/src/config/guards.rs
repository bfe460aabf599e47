//! The section `[guards]`: what is done about what would keep a board from coming back.

use super::{ConfigError, Section, one_of};
use crate::domain::guard::{Action, GUARDS, Guards};

impl Section<'_> {
    /// What is done about findings, by the name of the finding.
    pub(super) fn guards(mut self) -> Result<Guards, ConfigError> {
        let allowed = one_of(Action::NAMES.iter().map(|(name, _)| *name));
        let mut guards = Guards::default();
        for guard in &GUARDS {
            let Some(text) = self.text(guard.kind.name(), &allowed)? else { continue };
            let action = Action::named(&text)
                .ok_or_else(|| self.wrong(guard.kind.name(), format!("\"{text}\""), &allowed))?;
            guards.set(guard.kind, action);
        }
        self.finish()?;
        Ok(guards)
    }
}
