use super::*;

#[test]
fn suites_survive_their_bit() {
    for suite in [Suite::ChaCha20Poly1305, Suite::Aes256Gcm] {
        assert_eq!(Suite::from_bit(suite.bit()), Some(suite));
    }
    assert_eq!(Suite::from_bit(0), None);
    assert_eq!(Suite::from_bit(3), None);
}
