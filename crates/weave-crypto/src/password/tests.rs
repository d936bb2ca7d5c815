use argon2::{AssociatedData, ParamsBuilder};

use super::*;
use crate::testing::hex_array;

#[test]
fn rfc_9106_section_5_3_argon2id() {
    let params = ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .output_len(32)
        .data(AssociatedData::new(&[4; 12]).expect("short"))
        .build()
        .expect("good parameters");
    let argon2 = Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params);
    let mut tag = [0; 32];
    let hashed = argon2
        .expect("a short secret")
        .hash_password_into(&[1; 32], &[2; 16], &mut tag);
    assert_eq!(hashed, Ok(()));
    let expected = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659";
    assert_eq!(tag, hex_array(expected));
}

/// Computed once with OpenSSL's argon2id and Python's blake2b.
#[test]
fn a_password_is_stretched_as_documented() {
    for (password, expected) in [
        (
            "3UnFh4jhahFC",
            "7d76760074bbc3cdf473e88a83426169f9c799a1bddbc2b6782c7daf3d29ad34",
        ),
        (
            "",
            "6724b8a80812289ccfbd3ecbc6f655e00bb9aea8b4780aff3efe946e6b4ce0e3",
        ),
    ] {
        let stretched = StretchedPassword::stretch(password, "weave").expect("memory");
        assert_eq!(stretched.as_bytes(), &hex_array(expected));
    }
}

#[test]
fn the_salt_depends_on_the_mesh() {
    assert_eq!(salt("weave"), salt("weave"));
    assert_ne!(salt("weave"), salt("other"));
}

#[test]
fn debug_output_holds_no_password() {
    let stretched = StretchedPassword::from_bytes([0xab; 32]);
    assert_eq!(format!("{stretched:?}"), "StretchedPassword(..)");
}
