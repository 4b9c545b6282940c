//! Pages of hostile keys, against the plain definition.

use std::collections::BTreeSet;

use super::*;
use crate::s3::blob::Blob;
use crate::s3::store::Attributes;

const KEYS: &[&str] = &[
    "",
    "../x",
    "a",
    "a b",
    "a!",
    "a/",
    "a//b",
    "a/b",
    "a/c",
    "a\nb",
    "a0",
    "b/\u{10FFFF}/x",
    "b/\u{10FFFF}\u{10FFFF}",
    "b/y",
    "c+d",
    "dir/",
    "dir/sub/deep",
    "\u{e4}",
];

fn objects() -> BTreeMap<String, Arc<Object>> {
    let object = Arc::new(Object::new(Blob::default(), [0; 16], Attributes::default()));
    KEYS.iter()
        .map(|key| ((*key).to_owned(), Arc::clone(&object)))
        .collect()
}

fn names(page: &Page) -> Vec<String> {
    page.entries
        .iter()
        .map(|entry| entry.name().to_owned())
        .collect()
}

fn expected(prefix: &str, delimiter: Option<&str>) -> Vec<String> {
    let mut all = BTreeSet::new();
    for key in KEYS.iter().filter(|key| key.starts_with(prefix)) {
        let behind = &key[prefix.len()..];
        let group = delimiter.and_then(|d| Some(prefix.len() + behind.find(d)? + d.len()));
        all.insert(key[..group.unwrap_or(key.len())].to_owned());
    }
    all.into_iter().collect()
}

#[test]
fn pages_of_any_size_add_up_to_every_key_once() {
    let objects = objects();
    for prefix in ["", "a", "a/", "b/", "dir/", "zz", "\u{e4}"] {
        for delimiter in [None, Some("/"), Some("//"), Some("b"), Some("")] {
            for max_entries in 1..KEYS.len() + 2 {
                let mut found = Vec::new();
                let mut resume = Resume::Start;
                loop {
                    let request = ListRequest {
                        prefix,
                        delimiter,
                        resume,
                        max_entries,
                    };
                    let page = list(&objects, &request);
                    found.extend(names(&page));
                    let Some(next) = page.next() else { break };
                    let token = encode_token(&next).unwrap();
                    resume = decode_token(&token).unwrap();
                }
                let wanted = expected(prefix, delimiter.filter(|d| !d.is_empty()));
                assert_eq!(found, wanted, "{prefix:?} {delimiter:?} {max_entries}");
            }
        }
    }
}

#[test]
fn the_two_habits_of_starting_inside_a_group() {
    let objects = objects();
    let page = |resume| {
        let request = ListRequest {
            prefix: "",
            delimiter: Some("/"),
            resume,
            max_entries: 1,
        };
        names(&list(&objects, &request))
    };
    assert_eq!(page(Resume::After("a/b".to_owned())), ["a/"]);
    assert_eq!(page(Resume::Past("a/b".to_owned())), ["a0"]);
    assert_eq!(page(Resume::After("a/c".to_owned())), ["a0"]);
}

#[test]
fn keys_are_encoded_as_in_a_form_but_for_the_slash() {
    assert_eq!(url_encode("a b/c+d\n\u{e4}"), "a+b/c%2Bd%0A%C3%A4");
}

#[test]
fn a_token_of_another_store_is_refused() {
    for token in ["", "x00", "pzz", "aff", "p0"] {
        assert_eq!(decode_token(token), None, "{token:?}");
    }
}
