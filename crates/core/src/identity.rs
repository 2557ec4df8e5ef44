//! The person or system that acts, as changes carry it.

use minicbor::{Decode, Encode};

/// A person or system that edits: carried as the author of an actor's first change, so that it
/// holds for all changes of that actor.
///
/// Until a relay verifies it, an identity is a claim.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Identity {
    /// The user, as people know them.
    #[n(0)]
    pub user: String,
    /// The role that rules speak of, such as `dispatch`.
    #[n(1)]
    pub role: Option<String>,
    /// The device, as people know it.
    #[n(2)]
    pub device: Option<String>,
}

impl Identity {
    /// A user without a role.
    pub fn user(user: impl Into<String>) -> Self {
        Self { user: user.into(), role: None, device: None }
    }

    /// The same, acting in a role.
    #[must_use]
    pub fn with_role(self, role: impl Into<String>) -> Self {
        Self { role: Some(role.into()), ..self }
    }

    /// The same, on a device.
    #[must_use]
    pub fn with_device(self, device: impl Into<String>) -> Self {
        Self { device: Some(device.into()), ..self }
    }

    /// As the author bytes of a change.
    pub fn to_author(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("encoding into a Vec cannot fail")
    }

    /// For machines that read JSON: `user`, `role` and `device`.
    pub fn to_json(&self) -> serde_json::Value {
        let Self { user, role, device } = self;
        serde_json::json!({ "user": user, "role": role, "device": device })
    }

    /// From the author bytes of a change. Bytes that other programs write there are taken for the
    /// user's name if they are text, and otherwise shown as hex.
    pub fn from_author(author: &[u8]) -> Self {
        minicbor::decode(author).unwrap_or_else(|_| match std::str::from_utf8(author) {
            Ok(user) => Self::user(user),
            Err(_) => {
                Self::user(author.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            }
        })
    }
}

/// The user, and the role in brackets.
impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.role {
            Some(role) => write!(f, "{} ({role})", self.user),
            None => f.write_str(&self.user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let full = Identity::user("Ann").with_role("dispatch").with_device("desk-2");
        for identity in [Identity::user("Bo"), full] {
            assert_eq!(Identity::from_author(&identity.to_author()), identity);
        }
    }

    #[test]
    fn authors_of_other_programs_are_users_without_a_role() {
        assert_eq!(Identity::from_author(b"ann@example.com"), Identity::user("ann@example.com"));
        assert_eq!(Identity::from_author(&[0xff, 0x00]), Identity::user("ff00"));
    }
}
