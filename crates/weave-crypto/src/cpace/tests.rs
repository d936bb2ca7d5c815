//! Vectors of draft-irtf-cfrg-cpace-21, appendix B.3, and what this project adds.

use super::*;
use crate::testing::{hex, hex_array};

const PRS: &[u8] = b"Password";
const CI: &[u8] = b"\x0bA_initiator\x0bB_responder";
const SID: &str = "7e4b4791d6a8ef019b936c79fb7f2c57";
const YA_SCALAR: &str = "da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08";
const YA: &str = "d6bac480f2c386c394efc7c47adb9925dcd2630b64f240c50f8d0eec482b9157";
const YB_SCALAR: &str = "d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d";
const YB: &str = "3ea7e0b19560d7c0b0f5734f63b955286dfa8232b5ebe63324e2d9e7433f7258";
const K: &str = "80b69a8a76457ab6a4d7f887a4bf6b55a2f80ac19c333f917a05fc9887c8b40f";

fn share(digits: &str) -> Share {
    Share::decode(&hex_array(digits)).expect("a valid share")
}

#[test]
fn the_generator_is_that_of_the_draft() {
    let string = generator_string(PRS, CI, &hex(SID));
    let expected = hex("11435061636552697374726574746f3235350850617373776f726464
         00000000000000000000000000000000000000000000000000000000
         00000000000000000000000000000000000000000000000000000000
         00000000000000000000000000000000000000000000000000000000
         00000000000000000000000000000000180b415f696e69746961746f
         720b425f726573706f6e646572107e4b4791d6a8ef019b936c79fb7f
         2c57");
    assert_eq!(string, expected);
    let generator = calculate_generator(PRS, CI, &hex(SID));
    let expected = hex("222b6b195fe84b1652badb6f6a3ae3d24341e7306967f0b8115b40d5698c7e56");
    assert_eq!(generator.compress().to_bytes().to_vec(), expected);
}

#[test]
fn shares_secret_and_key_are_those_of_the_draft() {
    let generator = calculate_generator(PRS, CI, &hex(SID));
    let (ya, yb) = (
        sample_scalar(&hex_array(YA_SCALAR)),
        sample_scalar(&hex_array(YB_SCALAR)),
    );
    assert_eq!(Share(generator * ya).encode(), hex_array(YA));
    assert_eq!(Share(generator * yb).encode(), hex_array(YB));
    let secret = scalar_mult_vfy(&ya, &share(YB)).expect("a point");
    assert_eq!(*secret, hex_array(K));
    assert_eq!(*scalar_mult_vfy(&yb, &share(YA)).expect("a point"), *secret);
    let transcript = transcript_ir(&hex(YA), b"ADa", &hex(YB), b"ADb");
    let expected = hex("20d6bac480f2c386c394efc7c47adb9925dcd2630b64f240c50f8d0e
         ec482b915703414461203ea7e0b19560d7c0b0f5734f63b955286dfa
         8232b5ebe63324e2d9e7433f725803414462");
    assert_eq!(transcript, expected);
    let expected = hex("b69effbf61b51d56401c0f65601abe428de8206feaaf0e32198896dc
         ae7b35cd2b38950a39dfd5d4a79164614c2984f7daa460b588c1e80c
         3fa2068af7900447");
    assert_eq!(isk(&hex(SID), &secret, &transcript).to_vec(), expected);
}

#[test]
fn valid_points_are_multiplied_and_invalid_ones_refused() {
    let scalar = Scalar::from_bytes_mod_order(hex_array(
        "7cd0e075fa7955ba52c02759a6c90dbbfc10e6d40aea8d283e407d88cf538a05",
    ));
    let valid = share("2c3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c");
    let expected = "7c13645fe790a468f62c39beb7388e541d8405d1ade69d1778c5fe3e7f6b600e";
    assert_eq!(
        *scalar_mult_vfy(&scalar, &valid).expect("a point"),
        hex_array(expected)
    );
    for invalid in [
        "2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c",
        "0000000000000000000000000000000000000000000000000000000000000000",
    ] {
        assert!(Share::decode(&hex_array(invalid)).is_err());
    }
}

/// RFC 9496, appendix A.3: encodings that decode to nothing.
#[test]
fn non_canonical_and_negative_encodings_are_refused() {
    for invalid in [
        "00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "f3ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ed57ffd8c914fb201471d1c3d245ce3c746fcbe63a3679d51b6a516ebebe0e20",
        "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371",
    ] {
        assert!(Share::decode(&hex_array(invalid)).is_err(), "{invalid}");
    }
}

#[test]
fn lengths_are_encoded_as_the_draft_says() {
    assert_eq!(length_prefix(&[0; 0]), [0]);
    assert_eq!(length_prefix(&[0; 127]), [0x7f]);
    assert_eq!(length_prefix(&[0; 128]), [0x80, 0x01]);
    assert_eq!(length_prefix(&[0; 16384]), [0x80, 0x80, 0x01]);
    assert_eq!(
        lv_cat(&[b"1234", b"5", b"", b"678"]),
        b"\x041234\x015\x00\x03678"
    );
}

#[test]
fn both_sides_agree_exactly_when_everything_is_the_same() {
    let (a, b) = ([1; 32], [2; 32]);
    let initiator = Half::new(&[7; 32], b"channel", [9; 16], &a);
    let key = |password: [u8; 32], channel: &[u8], sid| {
        let responder = Half::new(&password, channel, sid, &b);
        let theirs = Share::decode(&responder.share()).expect("a share");
        let ours = Share::decode(&initiator.share()).expect("a share");
        let one = initiator.finish_initiator(&theirs).expect("a key");
        let other = responder.finish_responder(&ours).expect("a key");
        (one, other)
    };
    let (one, other) = key([7; 32], b"channel", [9; 16]);
    assert_eq!(one, other);
    for (one, other) in [
        key([8; 32], b"channel", [9; 16]),
        key([7; 32], b"charnel", [9; 16]),
        key([7; 32], b"channel", [8; 16]),
    ] {
        assert_ne!(one, other);
    }
}

#[test]
fn the_two_roles_do_not_get_the_same_key_from_one_share() {
    let half = Half::new(&[7; 32], b"channel", [9; 16], &[1; 32]);
    let other = Half::new(&[7; 32], b"channel", [9; 16], &[2; 32]);
    let theirs = Share::decode(&other.share()).expect("a share");
    let one = half.finish_initiator(&theirs).expect("a key");
    assert_ne!(one, half.finish_responder(&theirs).expect("a key"));
}
