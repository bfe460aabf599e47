//! Who may do what. Pure.

use crate::domain::user::{Role, User};

/// Something that a user wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// See nodes, environments and deployments.
    Look,
    /// Hold free nodes.
    Reserve,
    /// Do something with what this user holds.
    Control {
        /// Who holds it.
        owner: &'a str,
    },
    /// Change the inventory.
    Administer,
}

/// Whether `user` may do `action`.
pub fn may(user: &User, action: Action<'_>) -> bool {
    match (user.role, action) {
        (Role::Admin, _) | (Role::User, Action::Look | Action::Reserve) => true,
        (Role::User, Action::Control { owner }) => owner == user.name,
        (Role::User, Action::Administer) => false,
        (Role::Monitor, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_control_what_they_hold_and_admins_everything() {
        let user = |name: &str, role| User { name: name.into(), role };
        let held = Action::Control { owner: "ann" };
        assert!(may(&user("ann", Role::User), held));
        assert!(!may(&user("bob", Role::User), held));
        assert!(may(&user("bob", Role::Admin), held));
        assert!(!may(&user("ann", Role::User), Action::Administer));
        for action in [held, Action::Look, Action::Reserve, Action::Administer] {
            assert!(!may(&user("ann", Role::Monitor), action), "{action:?}");
        }
    }
}
