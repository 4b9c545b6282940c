//! The XML that S3 answers with, and the one document that we send.
//!
//! Everything is parsed into plain structs; nothing here decides. Keys of listings come
//! percent-encoded where we asked for it and the store says that it did so, because XML
//! cannot state every character that a key may hold.

use arustio_types::{Timestamp, UfsKey};
use chrono::DateTime;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::fault::{Fault, Refusal, shorten};

/// `<Error>`, as refusals and some answers of status 200 hold it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ErrorAnswer {
    pub(super) code: String,
    pub(super) message: String,
}

impl ErrorAnswer {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        if !text.contains("<Error") {
            return None;
        }
        quick_xml::de::from_str(text).ok()
    }
}

/// A page of `ListObjectsV2`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListAnswer {
    #[serde(default)]
    pub(super) contents: Vec<Contents>,
    #[serde(default)]
    pub(super) common_prefixes: Vec<CommonPrefix>,
    #[serde(default)]
    pub(super) is_truncated: bool,
    #[serde(default)]
    pub(super) next_continuation_token: Option<String>,
    #[serde(default)]
    pub(super) encoding_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Contents {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) last_modified: String,
    #[serde(rename = "ETag", default)]
    pub(super) e_tag: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CommonPrefix {
    pub(super) prefix: String,
}

/// A page of `ListMultipartUploads`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UploadsAnswer {
    #[serde(default)]
    pub(super) upload: Vec<UploadItem>,
    #[serde(default)]
    pub(super) is_truncated: bool,
    #[serde(default)]
    pub(super) next_key_marker: Option<String>,
    #[serde(default)]
    pub(super) next_upload_id_marker: Option<String>,
    #[serde(default)]
    pub(super) encoding_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UploadItem {
    pub(super) key: String,
    pub(super) upload_id: String,
    pub(super) initiated: String,
}

/// The answer to `CreateMultipartUpload`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BegunAnswer {
    pub(super) upload_id: String,
}

/// The answer to `CompleteMultipartUpload`, `CopyObject` and `UploadPartCopy`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TagAnswer {
    #[serde(rename = "ETag")]
    pub(super) e_tag: String,
}

/// Reads an answer; one that holds an `<Error>` in spite of its status is a refusal.
pub(super) fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Fault> {
    if let Some(said) = ErrorAnswer::parse(body).filter(|said| !said.code.is_empty()) {
        return Err(Fault::Refused(Refusal {
            status: status_of(&said.code),
            code: shorten(&said.code),
            message: shorten(&said.message),
            ..Refusal::default()
        }));
    }
    let text = std::str::from_utf8(body);
    let text = text.map_err(|_| Fault::BadAnswer("it is not UTF-8".to_owned()))?;
    quick_xml::de::from_str(text).map_err(|error| Fault::BadAnswer(shorten(&error.to_string())))
}

/// The status that goes with an error inside an answer of status 200.
fn status_of(code: &str) -> u16 {
    match code {
        "PreconditionFailed" => 412,
        "NoSuchKey" | "NoSuchUpload" => 404,
        "SlowDown" | "ServiceUnavailable" => 503,
        "AccessDenied" => 403,
        _ => 500,
    }
}

/// A key as the store listed it.
pub(super) fn listed_key(text: &str, encoding: Option<&str>) -> Result<UfsKey, Fault> {
    if encoding != Some("url") {
        return Ok(UfsKey::new(text));
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    let decoded = decoded.map_err(|_| Fault::BadAnswer("a key is not UTF-8".to_owned()))?;
    Ok(UfsKey::new(&decoded))
}

/// A time as listings state it.
pub(super) fn listed_time(text: &str) -> Result<Timestamp, Fault> {
    let parsed = DateTime::parse_from_rfc3339(text);
    let parsed = parsed.map_err(|_| Fault::BadAnswer("a date cannot be read".to_owned()))?;
    Ok(Timestamp::from_millis(parsed.timestamp_millis()))
}

/// A time as headers state it.
pub(super) fn header_time(text: &str) -> Option<Timestamp> {
    let parsed = DateTime::parse_from_rfc2822(text).ok()?;
    Some(Timestamp::from_millis(parsed.timestamp_millis()))
}

/// The document that completes an upload.
pub(super) fn complete_document<'a>(parts: impl Iterator<Item = (u32, &'a str)>) -> String {
    let mut document = String::from("<CompleteMultipartUpload>");
    for (number, tag) in parts {
        let tag = quick_xml::escape::escape(tag);
        document.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
        ));
    }
    document.push_str("</CompleteMultipartUpload>");
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u3_a_page_with_hostile_keys_is_read_whole() {
        let page = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
            <Contents><Key>a%2F%2Fb+c%2Bd</Key><Size>3</Size>\
            <LastModified>2024-05-01T10:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag></Contents>\
            <CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>\
            <Contents><Key>%0A</Key><Size>0</Size>\
            <LastModified>2024-05-01T10:00:00Z</LastModified></Contents>\
            <NextContinuationToken>t</NextContinuationToken></ListBucketResult>";
        let page: ListAnswer = parse(page.as_bytes()).unwrap();
        let encoding = page.encoding_type.as_deref();
        let keys: Vec<_> = page
            .contents
            .iter()
            .map(|c| listed_key(&c.key, encoding).unwrap())
            .collect();
        assert_eq!(keys, [UfsKey::new("a//b c+d"), UfsKey::new("\n")]);
        assert_eq!(page.contents[0].e_tag.as_deref(), Some("\"x\""));
        assert_eq!(page.common_prefixes.len(), 1);
        assert!(page.is_truncated);
        assert_eq!(
            listed_time("2024-05-01T10:00:00.000Z").unwrap().millis(),
            1_714_557_600_000
        );
    }

    #[test]
    fn an_error_in_an_answer_of_status_200_is_a_refusal() {
        let body = b"<?xml version=\"1.0\"?>\n<Error><Code>PreconditionFailed</Code></Error>";
        let Err(Fault::Refused(refusal)) = parse::<TagAnswer>(body) else {
            panic!("it is refused");
        };
        assert_eq!(
            (refusal.status, refusal.code.as_str()),
            (412, "PreconditionFailed")
        );
        assert!(matches!(
            parse::<TagAnswer>(b"<x"),
            Err(Fault::BadAnswer(_))
        ));
        assert!(matches!(
            parse::<TagAnswer>(b"\xff"),
            Err(Fault::BadAnswer(_))
        ));
    }
}
