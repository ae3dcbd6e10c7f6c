//! Names of the properties that a request may ask for (`UnindexedFieldURIType` of `types.xsd`).

/// Properties of items, folders and tasks, sorted.
const KNOWN: &[&str] = &[
    "folder:ArchiveTag",
    "folder:ChildFolderCount",
    "folder:DisplayName",
    "folder:DistinguishedFolderId",
    "folder:EffectiveRights",
    "folder:FolderClass",
    "folder:FolderId",
    "folder:ManagedFolderInformation",
    "folder:ParentFolderId",
    "folder:PermissionSet",
    "folder:PolicyTag",
    "folder:ReplicaList",
    "folder:SearchParameters",
    "folder:SharingEffectiveRights",
    "folder:TotalCount",
    "folder:UnreadCount",
    "item:AppliedHashtags",
    "item:AppliedHashtagsPreview",
    "item:ArchiveTag",
    "item:AtAllMention",
    "item:Attachments",
    "item:BlockStatus",
    "item:Body",
    "item:CanDelete",
    "item:Categories",
    "item:ConversationId",
    "item:Culture",
    "item:DateTimeCreated",
    "item:DateTimeReceived",
    "item:DateTimeSent",
    "item:DisplayBcc",
    "item:DisplayCc",
    "item:DisplayTo",
    "item:EffectiveRights",
    "item:EntityExtractionResult",
    "item:FirstBody",
    "item:Flag",
    "item:HasAttachments",
    "item:HasBlockedImages",
    "item:Hashtags",
    "item:IconIndex",
    "item:Importance",
    "item:InReplyTo",
    "item:InferenceClassification",
    "item:InstanceKey",
    "item:InternetMessageHeaders",
    "item:IsAssociated",
    "item:IsClutter",
    "item:IsDraft",
    "item:IsFromMe",
    "item:IsResend",
    "item:IsSubmitted",
    "item:IsUnmodified",
    "item:ItemClass",
    "item:ItemId",
    "item:LastModifiedName",
    "item:LastModifiedTime",
    "item:Likes",
    "item:LikesPreview",
    "item:MentionedMe",
    "item:Mentions",
    "item:MentionsEx",
    "item:MentionsPreview",
    "item:MimeContent",
    "item:MimeContentUTF8",
    "item:NormalizedBody",
    "item:ParentFolderId",
    "item:PendingSocialActivityTagIds",
    "item:PolicyTag",
    "item:PredictedActionReasons",
    "item:Preview",
    "item:ReminderDueBy",
    "item:ReminderIsSet",
    "item:ReminderMinutesBeforeStart",
    "item:ReminderNextTime",
    "item:ResponseObjects",
    "item:RetentionDate",
    "item:RightsManagementLicenseData",
    "item:Sensitivity",
    "item:Size",
    "item:StoreEntryId",
    "item:Subject",
    "item:TextBody",
    "item:UniqueBody",
    "item:WebClientEditFormQueryString",
    "item:WebClientReadFormQueryString",
    "task:ActualWork",
    "task:AssignedTime",
    "task:BillingInformation",
    "task:ChangeCount",
    "task:Companies",
    "task:CompleteDate",
    "task:Contacts",
    "task:DelegationState",
    "task:Delegator",
    "task:DueDate",
    "task:IsAssignmentEditable",
    "task:IsComplete",
    "task:IsRecurring",
    "task:IsTeamTask",
    "task:Mileage",
    "task:Owner",
    "task:PercentComplete",
    "task:Recurrence",
    "task:StartDate",
    "task:Status",
    "task:StatusDescription",
    "task:TotalWork",
];

/// Kinds of objects that this server does not store. Their properties are accepted and have no value.
const OTHER_KINDS: &[&str] = &[
    "abchperson",
    "booking",
    "calendar",
    "contacts",
    "distributionlist",
    "insight",
    "meeting",
    "meetingRequest",
    "message",
    "network",
    "person",
    "postitem",
    "rolemember",
    "sharingMessage",
];

/// Returns whether the schema contains the property.
pub(crate) fn is_known(uri: &str) -> bool {
    KNOWN.binary_search(&uri).is_ok()
        || uri
            .split_once(':')
            .is_some_and(|(kind, name)| OTHER_KINDS.contains(&kind) && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_tells_unknown_names() {
        assert!(KNOWN.is_sorted());
        assert!(is_known("task:DueDate"));
        assert!(is_known("calendar:Start"));
        assert!(!is_known("task:Deadline"));
        assert!(!is_known("item"));
    }
}
