//! What a client receives, encoded.
