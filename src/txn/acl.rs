//! Access control entries and the identities that they are checked against (docs/protocol.md §6).

use std::sync::Arc;

/// One entry of an access control list, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Acl {
    /// Permission bits: read 1, write 2, create 4, delete 8, admin 16; others are kept as given.
    pub perms: i32,
    /// `world`, `ip`, `digest`, …
    pub scheme: Arc<str>,
    /// Meaning depends on the scheme.
    pub id: Arc<str>,
}

impl Acl {
    /// READ.
    pub const READ: i32 = 1;
    /// WRITE.
    pub const WRITE: i32 = 2;
    /// CREATE, checked on the parent.
    pub const CREATE: i32 = 4;
    /// DELETE, checked on the parent.
    pub const DELETE: i32 = 8;
    /// ADMIN.
    pub const ADMIN: i32 = 16;
    /// All five.
    pub const ALL: i32 = 31;

    /// `world:anyone` with the given permissions.
    pub fn world(perms: i32) -> Acl {
        Acl {
            perms,
            scheme: "world".into(),
            id: "anyone".into(),
        }
    }
}

/// One authenticated identity of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthId {
    /// `ip`, `digest`, `super`, …
    pub scheme: Arc<str>,
    /// Address, `user:hash`, …
    pub id: Arc<str>,
}

/// The identities of a connection, sorted, without duplicates: one is found without looking at all.
/// Immutable and counted: each request carries the list as it was at the request's place in the stream
/// (docs/protocol.md §6.2), at the price of a pointer.
pub type Credentials = Arc<[AuthId]>;
