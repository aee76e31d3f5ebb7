/// The first eight bytes of SHA-256 over all parts with their lengths.
pub fn digest(parts: &[&[u8]]) -> u64 {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let bytes = hash.finalize();
    u64::from_le_bytes(std::array::from_fn(|i| bytes[i]))
}
