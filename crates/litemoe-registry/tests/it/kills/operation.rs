use serde::{Deserialize, Serialize};

/// A change of a registry. Contents are one byte, repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Operation {
    AddApp { app: String },
    SetWeight { app: String, weight: u32 },
    Rotate { app: String, grace: bool },
    Revoke { app: String },
    Record { app: String, tokens: u64 },
    Put { owner: Option<String>, name: String, content: u8, replaces: Option<u64> },
    RemoveAdapter { owner: Option<String>, name: String },
    Upload { app: String, content: u8 },
    RemoveFile { app: String, id: String },
    CreateJob { app: String },
    Claim,
    AddEvent { app: String, id: String },
    Succeed { app: String, id: String, name: String, content: u8, replaces: Option<u64> },
    Fail { app: String, id: String },
    Cancel { app: String, id: String },
    CollectGarbage,
}

/// What the process that made the change learnt from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Text of a new key, and its public id.
    pub(crate) key: Option<String>,
    pub(crate) key_id: Option<String>,
    /// Id of a new file or job, or of the claimed job.
    pub(crate) id: Option<String>,
    /// App of the claimed job.
    pub(crate) app: Option<String>,
    pub(crate) generation: Option<u64>,
}

impl Operation {
    /// The app that it is about.
    pub(crate) fn app(&self) -> Option<&String> {
        match self {
            Self::AddApp { app }
            | Self::SetWeight { app, .. }
            | Self::Rotate { app, .. }
            | Self::Revoke { app }
            | Self::Record { app, .. }
            | Self::Upload { app, .. }
            | Self::RemoveFile { app, .. }
            | Self::CreateJob { app }
            | Self::AddEvent { app, .. }
            | Self::Succeed { app, .. }
            | Self::Fail { app, .. }
            | Self::Cancel { app, .. } => Some(app),
            Self::Put { owner, .. } | Self::RemoveAdapter { owner, .. } => owner.as_ref(),
            Self::Claim | Self::CollectGarbage => None,
        }
    }
}

/// Bytes of a content.
pub(crate) fn bytes(content: u8) -> Vec<u8> {
    vec![content; 100 + usize::from(content) * 300]
}
