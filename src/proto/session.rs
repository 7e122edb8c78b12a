//! The session password: a pure function of the id, so that every server can check it
//! (docs/protocol.md §5.1). It is not a secret.

use crate::types::SessionId;

/// The 16 bytes that go with an id.
pub fn password(id: SessionId) -> [u8; 16] {
    const MASK: u64 = (1 << 48) - 1;
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    let mut seed = (id.0 as u64 ^ 0xB341_5C00 ^ MULTIPLIER) & MASK;
    let mut bytes = [0; 16];
    for word in bytes.chunks_exact_mut(4) {
        seed = seed.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        word.copy_from_slice(&((seed >> 16) as u32).to_le_bytes());
    }
    bytes
}

/// Whether a client that presents `password` may have the session.
pub fn is_password(id: SessionId, presented: &[u8]) -> bool {
    id != SessionId::NONE && presented == password(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::golden::hex;

    #[test]
    fn golden_password() {
        let id = SessionId(0x0100_000d_6217_0000);
        assert_eq!(
            password(id).to_vec(),
            hex("7bd87f53ecdfe671512b0caa15806718")
        );
        assert!(is_password(id, &password(id)));
        assert!(!is_password(id, &[0; 16]));
        assert!(!is_password(SessionId::NONE, &password(SessionId::NONE)));
    }
}
