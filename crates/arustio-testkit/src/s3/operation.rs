//! The operations of S3 that are counted and can be made to fail, by their
//! names in the S3 reference.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One operation of the S3 protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Operation {
            $($(#[$doc])* $name,)*
            /// A request that never became an operation: refused for its
            /// signature, malformed, or unknown to this server.
            Other,
        }

        impl Operation {
            /// Every operation, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$name,)* Self::Other];

            /// The name that the S3 reference uses.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::Other => "Other",
                }
            }

            /// The operation of that name, [`Operation::Other`] if this server
            /// does not know it.
            #[must_use]
            pub fn from_name(name: &str) -> Self {
                match name {
                    $(stringify!($name) => Self::$name,)*
                    _ => Self::Other,
                }
            }
        }
    };
}

operations! {
    /// Lists the buckets.
    ListBuckets,
    /// Creates a bucket.
    CreateBucket,
    /// Asks whether a bucket exists.
    HeadBucket,
    /// Asks for the region of a bucket.
    GetBucketLocation,
    /// Removes an empty bucket.
    DeleteBucket,
    /// Reads an object or a range of one.
    GetObject,
    /// Asks for the description of an object.
    HeadObject,
    /// Writes a whole object.
    PutObject,
    /// Deletes one object.
    DeleteObject,
    /// Deletes up to a thousand objects.
    DeleteObjects,
    /// Copies an object inside the store.
    CopyObject,
    /// Lists objects, first version of the protocol.
    ListObjects,
    /// Lists objects.
    ListObjectsV2,
    /// Begins a multipart upload.
    CreateMultipartUpload,
    /// Sends one part.
    UploadPart,
    /// Makes one part from bytes of another object.
    UploadPartCopy,
    /// Makes the parts one object.
    CompleteMultipartUpload,
    /// Gives a multipart upload up.
    AbortMultipartUpload,
    /// Lists the multipart uploads that are under way.
    ListMultipartUploads,
    /// Lists the parts of one upload.
    ListParts,
}

impl Operation {
    /// Its place in [`Operation::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
