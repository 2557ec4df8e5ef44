//! Tokens and rules: every way in which a token can be wrong, at any time.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use rejoin_core::{CollectionName, SpaceName};
use rejoin_relay::access::{
    Claims, Explanation, Key, KeyError, Keys, NewKey, Principal, Rights, Rules, SigningKey,
    TokenError,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

const RULES: &str = r#"
[token]
issuer   = "https://login.example"
audience = "acme"
keys     = ["key.pub"]

[[allow]]
roles = ["dispatch"]
space = "main"
read  = ["*"]
write = ["*"]

[[allow]]
roles = ["technician", "helper"]
space = "main"
read  = ["customers", "rejoin.schemas"]
write = ["jobs"]

[[allow]]
roles = ["helper"]
space = "*"
read  = ["news"]
"#;

struct Login {
    rules: Rules,
    keys: Keys,
    signing: SigningKey,
}

impl Login {
    fn new() -> Self {
        let key = NewKey::of_seed(&[7; 32]).expect("a key");
        let keys = Keys::of([Key::of_pem(&key.public).expect("a public key")]);
        let signing = SigningKey::of_pem(&key.private).expect("a private key");
        Self { rules: Rules::read(RULES).expect("rules"), keys, signing }
    }

    fn claims() -> Claims {
        Claims {
            user: "ann".to_owned(),
            roles: vec!["technician".to_owned()],
            device: None,
            issuer: "https://login.example".to_owned(),
            audience: "acme".to_owned(),
            issued_s: NOW - 10,
            expires_s: NOW + 3600,
            id: "a1".to_owned(),
        }
    }

    fn token(&self, claims: &Claims) -> String {
        self.signing.sign(claims, "sub", "roles").expect("a token")
    }

    fn read(&self, token: &str, now_s: u64) -> Result<Principal, TokenError> {
        Principal::of_token(token.as_bytes(), &self.rules.token, &self.keys, now_s)
    }

    /// Reads a token with these claims, which this key signed.
    fn read_json(&self, header: Value, claims: Value) -> Result<Principal, TokenError> {
        self.read(&signed(&header, &claims), NOW)
    }
}

/// A token of any header and claims, signed with the key of [`Login`].
fn signed(header: &Value, claims: &Value) -> String {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
    with_signature(header, claims, |message| pair.sign(message).as_ref().to_vec())
}

fn with_signature(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = BASE64URL_NOPAD.encode(&sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn claims_json() -> Value {
    json!({ "iss": "https://login.example", "aud": "acme", "exp": NOW + 60, "sub": "ann" })
}

#[test]
fn a_right_token_says_who_somebody_is() {
    let login = Login::new();
    let ann = login.read(&login.token(&Login::claims()), NOW).unwrap();
    assert_eq!((ann.user.as_str(), ann.token.as_deref()), ("ann", Some("a1")));
    assert_eq!((ann.issued_s, ann.expires_s), (Some(NOW - 10), NOW + 3600));
    assert!(ann.roles.iter().eq(["technician"]));
}

#[test]
fn tokens_are_good_for_their_time_and_a_minute_on_either_side() {
    let login = Login::new();
    let token = login.token(&Login::claims());
    let end = NOW + 3600;
    assert!(login.read(&token, end + 59).is_ok());
    assert_eq!(login.read(&token, end + 60), Err(TokenError::Expired));
    let decade = 10 * 365 * 86_400;
    assert_eq!(login.read(&token, NOW + decade), Err(TokenError::Expired));
    // Without `nbf` a clock that is behind takes a token all the same.
    assert!(login.read(&token, NOW - decade).is_ok());
    let mut claims = claims_json();
    claims["nbf"] = json!(NOW + 60);
    assert!(login.read_json(json!({ "alg": "EdDSA" }), claims.clone()).is_ok());
    claims["nbf"] = json!(NOW + 61);
    let late = login.read_json(json!({ "alg": "EdDSA" }), claims.clone());
    assert_eq!(late, Err(TokenError::NotYet));
    claims["nbf"] = json!("soon");
    let odd = login.read_json(json!({ "alg": "EdDSA" }), claims);
    assert_eq!(odd, Err(TokenError::Claim { claim: "nbf".to_owned() }));
    for exp in [json!(null), json!(-5), json!("x"), json!(f64::MAX)] {
        let mut claims = claims_json();
        claims["exp"] = exp.clone();
        let read = login.read_json(json!({ "alg": "EdDSA" }), claims);
        // The last one ends with the world, and is not wrong for that.
        assert_eq!(read.is_ok(), exp == json!(f64::MAX), "{exp}");
    }
}

#[test]
fn tokens_by_or_for_others_are_refused() {
    let login = Login::new();
    let other = Claims { issuer: "https://other.example".to_owned(), ..Login::claims() };
    assert_eq!(login.read(&login.token(&other), NOW), Err(TokenError::Issuer));
    let other = Claims { audience: "acme2".to_owned(), ..Login::claims() };
    assert_eq!(login.read(&login.token(&other), NOW), Err(TokenError::Audience));
    let mut claims = claims_json();
    claims["aud"] = json!(["billing", "acme"]);
    assert!(login.read_json(json!({ "alg": "EdDSA" }), claims.clone()).is_ok());
    for aud in [json!(null), json!([]), json!({ "acme": 1 }), json!("acm")] {
        claims["aud"] = aud;
        let read = login.read_json(json!({ "alg": "EdDSA" }), claims.clone());
        assert_eq!(read, Err(TokenError::Audience));
    }
    for sub in [json!(null), json!(""), json!(" "), json!(7), json!("x".repeat(300))] {
        let mut claims = claims_json();
        claims["sub"] = sub;
        let read = login.read_json(json!({ "alg": "EdDSA" }), claims);
        assert_eq!(read, Err(TokenError::Claim { claim: "sub".to_owned() }));
    }
}

#[test]
fn no_token_chooses_how_it_is_checked() {
    let login = Login::new();
    let good = login.token(&Login::claims());
    let (message, _) = good.rsplit_once('.').unwrap();
    let (_, claims) = message.split_once('.').unwrap();
    let header = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let token = format!("{}.{claims}.", header(json!({ "alg": alg })));
        assert_eq!(login.read(&token, NOW), Err(TokenError::Malformed), "{alg}");
    }
    // The public key as the secret of a symmetric algorithm.
    for alg in ["HS256", "HS384", "HS512", "ES256", "RS256", "PS256", "ES384"] {
        let token = format!("{}.{claims}.{}", header(json!({ "alg": alg })), "A".repeat(86));
        let read = login.read(&token, NOW);
        let is_refused = matches!(read, Err(TokenError::UnknownKey | TokenError::Malformed));
        assert!(is_refused, "{alg}: {read:?}");
    }
    // A key that the token brings or points to is not looked at.
    let pair = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    let x = BASE64URL_NOPAD.encode(pair.public_key().as_ref());
    for more in [
        json!({ "jwk": { "kty": "OKP", "crv": "Ed25519", "x": x } }),
        json!({ "jku": "https://evil.example/keys" }),
        json!({ "x5u": "https://evil.example/cert" }),
        json!({ "x5c": ["AAAA"] }),
    ] {
        let mut header = json!({ "alg": "EdDSA" });
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let sign = |message: &[u8]| pair.sign(message).as_ref().to_vec();
        let token = with_signature(&header, &claims_json(), sign);
        let read = login.read(&token, NOW);
        assert!(matches!(read, Err(TokenError::Signature | TokenError::Malformed)), "{read:?}");
    }
}

#[test]
fn a_token_that_was_altered_anywhere_is_refused() {
    let login = Login::new();
    let token = login.token(&Login::claims());
    for at in 0..token.len() {
        let mut altered = token.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let read = Principal::of_token(&altered, &login.rules.token, &login.keys, NOW);
        // The last letter of a part has bits that mean nothing, which a strict reader refuses.
        assert!(read.is_err(), "byte {at}");
    }
    for wrong in ["", ".", "..", "...", "a.b.c", "\u{0}", &token[1..], &token[..token.len() - 1]] {
        assert!(login.read(wrong, NOW).is_err(), "{wrong}");
    }
    let huge = "A".repeat(1 << 20);
    assert_eq!(login.read(&huge, NOW), Err(TokenError::Large { len: 1 << 20 }));
    assert!(login.read(&"A.".repeat(2000), NOW).is_err());
}

#[test]
fn key_sets_of_logins_are_read_by_the_name_of_the_key() {
    let login = Login::new();
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let ec = json!({
        "kty": "EC", "crv": "P-256", "kid": "2026", "alg": "ES256", "use": "sig",
        "x": BASE64URL_NOPAD.encode(x), "y": BASE64URL_NOPAD.encode(y),
    });
    let mut for_encryption = ec.clone();
    for_encryption["use"] = json!("enc");
    for_encryption["kid"] = json!("other");
    let set = json!({ "keys": [
        { "kty": "oct", "k": "AAAA", "kid": "2026" },
        { "kty": "unheard of" },
        7,
        for_encryption,
        ec,
    ]});
    let keys = Keys::of_set(set.to_string().as_bytes()).unwrap();
    let sign = |message: &[u8]| pair.sign(&random, message).unwrap().as_ref().to_vec();
    let read = |kid: &str| {
        let header = json!({ "alg": "ES256", "kid": kid });
        let token = with_signature(&header, &claims_json(), sign);
        Principal::of_token(token.as_bytes(), &login.rules.token, &keys, NOW)
    };
    assert_eq!(read("2026").unwrap().user, "ann");
    assert_eq!(read("other"), Err(TokenError::UnknownKey));
    assert_eq!(read("2027"), Err(TokenError::UnknownKey));
    let empty = json!({ "keys": [{ "kty": "oct", "k": "AAAA" }] }).to_string();
    assert_eq!(Keys::of_set(empty.as_bytes()).unwrap_err(), KeyError::Empty);
    assert!(matches!(Keys::of_set(b"<html>").unwrap_err(), KeyError::Set(_)));
}

#[test]
fn private_keys_and_others_are_no_public_keys() {
    let key = NewKey::of_seed(&[7; 32]).unwrap();
    assert_eq!(Key::of_pem(&key.private).unwrap_err(), KeyError::Private);
    assert_eq!(Key::of_pem("no key").unwrap_err(), KeyError::Unknown);
    assert!(SigningKey::of_pem(&key.public).is_err());
    // A key as other programs write it: `openssl genpkey -algorithm ed25519 | openssl pkey -pubout`.
    let text = "-----BEGIN PUBLIC KEY-----\n\
                MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
                -----END PUBLIC KEY-----\n";
    assert!(Key::of_pem(text).is_ok());
    let seed = HEXLOWER.encode(&[7; 32]);
    assert!(!format!("{:?}", Key::of_pem(&key.public).unwrap()).contains(&seed));
}

#[test]
fn rights_are_all_that_any_role_may() {
    let login = Login::new();
    let name = |text: &str| CollectionName::new(text).unwrap();
    let rights = |roles: &[&str], space: &str| {
        let claims =
            Claims { roles: roles.iter().map(|&it| it.to_owned()).collect(), ..Login::claims() };
        let who = login.read(&login.token(&claims), NOW).unwrap();
        Rights::of(&login.rules, &who, &SpaceName::new(space).unwrap())
    };
    assert_eq!(rights(&["dispatch"], "main"), Rights::all());
    assert_eq!(rights(&["dispatch"], "other"), Rights::none());
    assert_eq!(rights(&["nobody"], "main"), Rights::none());
    assert_eq!(rights(&[], "main"), Rights::none());
    let technician = rights(&["technician"], "main");
    assert!(technician.read.contains(&name("jobs")) && technician.write.contains(&name("jobs")));
    assert!(technician.read.contains(&name("customers")));
    assert!(!technician.write.contains(&name("customers")));
    assert!(!technician.read.contains(&name("wages")));
    let helper = rights(&["helper"], "main");
    assert!(helper.read.contains(&name("news")) && helper.read.contains(&name("jobs")));
    assert!(rights(&["helper"], "elsewhere").read.contains(&name("news")));
    let who = login.read(&login.token(&Login::claims()), NOW).unwrap();
    let why = |collection: &str| {
        Explanation::of(&login.rules, &who, &SpaceName::new("main").unwrap(), &name(collection))
    };
    assert_eq!(why("jobs"), Explanation { read: Some(13), write: Some(13) });
    assert_eq!(why("customers"), Explanation { read: Some(13), write: None });
    assert_eq!(why("wages"), Explanation { read: None, write: None });
}

#[test]
fn rules_count_whole_or_not_at_all() {
    let fault = |from: &str, to: &str| Rules::read(&RULES.replacen(from, to, 1)).unwrap_err();
    let unknown = fault("roles = [\"dispatch\"]", "rols = [\"dispatch\"]");
    assert_eq!(unknown.line, 8, "{unknown}");
    assert!(unknown.to_string().contains("`rols`"), "{unknown}");
    assert!(fault("issuer ", "isuer ").to_string().contains("isuer"));
    assert!(fault("keys     = [\"key.pub\"]\n", "").to_string().contains("names no keys"));
    let http = "jwks = \"http://login.example/keys\"\n";
    assert!(fault("keys     = [\"key.pub\"]\n", http).to_string().contains("https://"));
    assert_eq!(fault("space = \"main\"", "space = \"\"").line, 7);
    assert!(Rules::read("[token").is_err() && Rules::read("").is_err());
    let doubts: Vec<_> = Rules::read(RULES).unwrap().doubts();
    assert_eq!(doubts, []);
    let doubtful = RULES.replace(", \"rejoin.schemas\"]", "]").replace("[\"dispatch\"]", "[]");
    let doubts: Vec<_> = Rules::read(&doubtful).unwrap().doubts();
    assert_eq!(doubts.iter().map(|doubt| doubt.line).collect::<Vec<_>>(), [7, 13, 19]);
}
