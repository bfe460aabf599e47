//! Images: bytes of a file become chunks in a pack and a manifest. Knows no deployment and no HTTP.
