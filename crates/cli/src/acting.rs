//! The user that one command acts as, by `--as` or the environment.

use std::str::FromStr;

use anyhow::{Result, ensure};
use rejoin::Identity;
use serde::{Deserialize, Serialize};

/// A user with or without a role, as `--as` takes them: `USER[:ROLE]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acting {
    user: String,
    role: Option<String>,
}

impl FromStr for Acting {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (user, role) = match text.split_once(':') {
            Some((user, role)) => (user, Some(role)),
            None => (text, None),
        };
        ensure!(!user.is_empty(), "name a user: USER or USER:ROLE");
        ensure!(role != Some(""), "name a role after the colon, or leave the colon out");
        Ok(Self { user: user.to_owned(), role: role.map(str::to_owned) })
    }
}

impl Acting {
    /// The identity of this user on the device that the replica is on, which `known` names.
    pub(crate) fn on_the_device_of(&self, known: Option<Identity>) -> Identity {
        let device = known.and_then(|known| known.device);
        Identity { user: self.user.clone(), role: self.role.clone(), device }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_acts_is_a_user_and_perhaps_a_role() {
        let acting = |text: &str| text.parse::<Acting>().ok();
        let known = Identity::user("Bo").with_role("technician").with_device("van");
        let ann = acting("Ann:dispatch").expect("a user and a role");
        let ann = ann.on_the_device_of(Some(known));
        assert_eq!(ann, Identity::user("Ann").with_role("dispatch").with_device("van"));
        let plain = acting("Ann Lee").expect("a user").on_the_device_of(None);
        assert_eq!(plain, Identity::user("Ann Lee"));
        for wrong in ["", ":", ":dispatch", "Ann:"] {
            assert_eq!(acting(wrong), None, "{wrong}");
        }
    }
}
