//! The element order of the supported requests, from Exchange's own `messages.xsd` and `types.xsd`.

use super::schema::{Attribute, Content, Particle, Simple, Type};
use super::xml::Ns::{Messages as M, Soap as S, Types as T};

const ANY: u32 = u32::MAX;

const fn required(name: &'static str, kind: Simple) -> Attribute {
    Attribute {
        name,
        required: true,
        kind,
    }
}

const fn optional(name: &'static str, kind: Simple) -> Attribute {
    Attribute {
        name,
        required: false,
        kind,
    }
}

/// A particle: `min, max, namespace name type, …`.
macro_rules! particle {
    ($min:expr, $max:expr, $($ns:ident $name:literal $kind:expr),+) => {
        Particle { choice: &[$(($ns, $name, &$kind)),+], min: $min, max: $max }
    };
}

macro_rules! elements {
    ($(#[$meta:meta])* $visibility:vis $type:ident [$($attribute:expr),*] = $($particle:expr);* $(;)?) => {
        $(#[$meta])* $visibility static $type: Type =
            Type { attributes: &[$($attribute),*], content: Content::Elements(&[$($particle),*]) };
    };
}

macro_rules! simple {
    ($($type:ident = $kind:expr;)*) => { $(static $type: Type = Type { attributes: &[], content: Content::Text($kind) };)* };
}

macro_rules! empty {
    ($($type:ident [$($attribute:expr),*];)*) => {
        $(static $type: Type = Type { attributes: &[$($attribute),*], content: Content::Empty };)*
    };
}

static ANYTHING: Type = Type {
    attributes: &[],
    content: Content::Any,
};
static BODY: Type = Type {
    attributes: &[
        required("BodyType", Simple::OneOf(&["HTML", "Text"])),
        optional("IsTruncated", Simple::Boolean),
    ],
    content: Content::Text(Simple::String),
};

simple! {
    STRING = Simple::String;
    NON_EMPTY = Simple::NonEmpty;
    INT = Simple::Int;
    DOUBLE = Simple::Double;
    BOOLEAN = Simple::Boolean;
    DATE_TIME = Simple::DateTime;
    BASE_SHAPE = Simple::OneOf(&["IdOnly", "Default", "AllProperties", "PcxPeopleSearch"]);
    BODY_SHAPE = Simple::OneOf(&["Best", "HTML", "Text"]);
    MAX_CHANGES = Simple::Range(1, 512);
    SYNC_SCOPE = Simple::OneOf(&["NormalItems", "NormalAndAssociatedItems"]);
    SENSITIVITY = Simple::OneOf(&["Normal", "Personal", "Private", "Confidential"]);
    IMPORTANCE = Simple::OneOf(&["Low", "Normal", "High"]);
    STATUS = Simple::OneOf(&["NotStarted", "InProgress", "Completed", "WaitingOnOthers", "Deferred"]);
    DELEGATION = Simple::OneOf(&["NoMatch", "OwnNew", "Owned", "Accepted", "Declined", "Max"]);
}

/// Property types of an extended property.
pub(crate) const PROPERTY_TYPES: &[&str] = &[
    "ApplicationTime",
    "ApplicationTimeArray",
    "Binary",
    "BinaryArray",
    "Boolean",
    "CLSID",
    "CLSIDArray",
    "Currency",
    "CurrencyArray",
    "Double",
    "DoubleArray",
    "Error",
    "Float",
    "FloatArray",
    "Integer",
    "IntegerArray",
    "Long",
    "LongArray",
    "Null",
    "Object",
    "ObjectArray",
    "Short",
    "ShortArray",
    "SystemTime",
    "SystemTimeArray",
    "String",
    "StringArray",
];

/// Folders with a fixed name.
pub(crate) const DISTINGUISHED_FOLDERS: &[&str] = &[
    "calendar",
    "contacts",
    "deleteditems",
    "drafts",
    "inbox",
    "journal",
    "notes",
    "outbox",
    "sentitems",
    "tasks",
    "msgfolderroot",
    "publicfoldersroot",
    "root",
    "junkemail",
    "searchfolders",
    "voicemail",
    "recoverableitemsroot",
    "recoverableitemsdeletions",
    "recoverableitemsversions",
    "recoverableitemspurges",
    "recoverableitemsdiscoveryholds",
    "archiveroot",
    "archivemsgfolderroot",
    "archivedeleteditems",
    "archiveinbox",
    "archiverecoverableitemsroot",
    "archiverecoverableitemsdeletions",
    "archiverecoverableitemsversions",
    "archiverecoverableitemspurges",
    "archiverecoverableitemsdiscoveryholds",
    "syncissues",
    "conflicts",
    "localfailures",
    "serverfailures",
    "recipientcache",
    "quickcontacts",
    "conversationhistory",
    "adminauditlogs",
    "todosearch",
    "mycontacts",
    "directory",
    "imcontactlist",
    "peopleconnect",
    "favorites",
    "mecontact",
    "personmetadata",
    "teamspaceactivity",
    "teamspacemessaging",
    "teamspaceworkitems",
    "scheduled",
    "orionnotes",
    "tagitems",
    "alltaggeditems",
    "externalcontacts",
    "teamchat",
    "teamchathistory",
    "yammerroot",
    "yammerinbound",
    "yammeroutbound",
    "yammerfeeds",
    "onedriveroot",
    "onedriverecylebin",
    "onedrivesystem",
    "onedrivevolume",
    "important",
    "starred",
    "archive",
];

/// Server versions that a client may request.
pub(crate) const VERSIONS: &[&str] = &[
    "Exchange2007",
    "Exchange2007_SP1",
    "Exchange2009",
    "Exchange2010",
    "Exchange2010_SP1",
    "Exchange2010_SP2",
    "Exchange2012",
    "Exchange2013",
    "Exchange2013_SP1",
    "Exchange2015",
    "Exchange2016",
    "V2015_10_05",
    "V2016_01_06",
    "V2016_04_13",
    "V2016_07_13",
    "V2016_10_10",
    "V2017_01_07",
    "V2017_04_14",
    "V2017_07_11",
];

const DELETE_TYPES: Simple = Simple::OneOf(&["HardDelete", "SoftDelete", "MoveToDeletedItems"]);
const MEETING_SENDING: Simple = Simple::OneOf(&["SendToNone", "SendOnlyToAll", "SendToAllAndSaveCopy"]);
const MEETING_UPDATES: Simple = Simple::OneOf(&[
    "SendToNone",
    "SendOnlyToAll",
    "SendOnlyToChanged",
    "SendToAllAndSaveCopy",
    "SendToChangedAndSaveCopy",
]);
const DISPOSITIONS: Simple = Simple::OneOf(&["SaveOnly", "SendOnly", "SendAndSaveCopy"]);

empty! {
    ID [required("Id", Simple::String), optional("ChangeKey", Simple::String)];
    FIELD_URI [required("FieldURI", Simple::FieldUri)];
    INDEXED_FIELD_URI [required("FieldURI", Simple::String), required("FieldIndex", Simple::String)];
    EXTENDED_FIELD_URI [
        optional("DistinguishedPropertySetId", Simple::OneOf(&[
            "Meeting", "Appointment", "Common", "PublicStrings", "Address", "InternetHeaders", "CalendarAssistant",
            "UnifiedMessaging", "Task", "Sharing",
        ])),
        optional("PropertySetId", Simple::Guid),
        optional("PropertyTag", Simple::PropertyTag),
        optional("PropertyName", Simple::String),
        optional("PropertyId", Simple::Int),
        required("PropertyType", Simple::OneOf(PROPERTY_TYPES))
    ];
    INDEXED_PAGE [
        optional("MaxEntriesReturned", Simple::Int),
        required("Offset", Simple::Int),
        required("BasePoint", Simple::OneOf(&["Beginning", "End"]))
    ];
    FRACTIONAL_PAGE [
        optional("MaxEntriesReturned", Simple::Int),
        required("Numerator", Simple::Int),
        required("Denominator", Simple::Int)
    ];
    CONSTANT [required("Value", Simple::String)];
    SERVER_VERSION [required("Version", Simple::String)];
}

macro_rules! path {
    ($min:expr, $max:expr) => {
        particle!($min, $max, T "FieldURI" FIELD_URI, T "IndexedFieldURI" INDEXED_FIELD_URI, T "ExtendedFieldURI" EXTENDED_FIELD_URI)
    };
}

macro_rules! search {
    ($min:expr, $max:expr) => {
        particle!($min, $max, T "Exists" PATH_ONLY, T "IsEqualTo" COMPARISON, T "IsNotEqualTo" COMPARISON,
            T "IsGreaterThan" COMPARISON, T "IsGreaterThanOrEqualTo" COMPARISON, T "IsLessThan" COMPARISON,
            T "IsLessThanOrEqualTo" COMPARISON, T "Contains" CONTAINS, T "Not" NOT, T "And" SEVERAL, T "Or" SEVERAL,
            T "Excludes" ANYTHING)
    };
}

elements! { PATHS [] = path!(1, ANY) }
elements! { PATH_ONLY [] = path!(1, 1) }
elements! { OPERAND [] = particle!(1, 1, T "FieldURI" FIELD_URI, T "ExtendedFieldURI" EXTENDED_FIELD_URI, T "Constant" CONSTANT) }
elements! { COMPARISON [] = path!(1, 1); particle!(1, 1, T "FieldURIOrConstant" OPERAND) }
elements! { CONTAINS [
    optional("ContainmentMode", Simple::OneOf(&["FullString", "Prefixed", "Substring", "PrefixOnWords", "ExactPhrase"])),
    optional("ContainmentComparison", Simple::OneOf(&[
        "Exact", "IgnoreCase", "IgnoreNonSpacingCharacters", "Loose", "IgnoreCaseAndNonSpacingCharacters",
        "LooseAndIgnoreCase", "LooseAndIgnoreNonSpace", "LooseAndIgnoreCaseAndIgnoreNonSpace",
    ]))
] = path!(1, 1); particle!(1, 1, T "Constant" CONSTANT) }
elements! { NOT [] = search!(1, 1) }
elements! { SEVERAL [] = search!(1, ANY) }
elements! { RESTRICTION [] = search!(1, 1) }

elements! { MAILBOX [] =
particle!(0, 1, T "Name" STRING); particle!(0, 1, T "EmailAddress" NON_EMPTY);
particle!(0, 1, T "RoutingType" NON_EMPTY); particle!(0, 1, T "MailboxType" STRING);
particle!(0, 1, T "ItemId" ID); particle!(0, 1, T "OriginalDisplayName" STRING) }
elements! { DISTINGUISHED_ID [
    required("Id", Simple::OneOf(DISTINGUISHED_FOLDERS)), optional("ChangeKey", Simple::String)
] = particle!(0, 1, T "Mailbox" MAILBOX) }
elements! { FOLDER_IDS [] = particle!(1, ANY, T "FolderId" ID, T "DistinguishedFolderId" DISTINGUISHED_ID) }
elements! { FOLDER_ID [] = particle!(1, 1, T "FolderId" ID, T "DistinguishedFolderId" DISTINGUISHED_ID) }
elements! { ITEM_IDS [] = particle!(1, ANY, T "ItemId" ID) }
elements! { IGNORED_IDS [] = particle!(1, ANY, T "ItemId" ID) }

elements! { FOLDER_SHAPE [] =
particle!(1, 1, T "BaseShape" BASE_SHAPE); particle!(0, 1, T "AdditionalProperties" PATHS) }
elements! { ITEM_SHAPE [] =
particle!(1, 1, T "BaseShape" BASE_SHAPE); particle!(0, 1, T "IncludeMimeContent" BOOLEAN);
particle!(0, 1, T "BodyType" BODY_SHAPE); particle!(0, 1, T "UniqueBodyType" BODY_SHAPE);
particle!(0, 1, T "NormalizedBodyType" BODY_SHAPE); particle!(0, 1, T "FilterHtmlContent" BOOLEAN);
particle!(0, 1, T "ConvertHtmlCodePageToUTF8" BOOLEAN); particle!(0, 1, T "InlineImageUrlTemplate" STRING);
particle!(0, 1, T "BlockExternalImages" BOOLEAN); particle!(0, 1, T "AddBlankTargetToLinks" BOOLEAN);
particle!(0, 1, T "MaximumBodySize" INT); particle!(0, 1, T "AdditionalProperties" PATHS) }

elements! { STRINGS [] = particle!(0, ANY, T "String" STRING) }
elements! { VALUES [] = particle!(1, ANY, T "Value" STRING) }
elements! { EXTENDED_PROPERTY [] =
particle!(1, 1, T "ExtendedFieldURI" EXTENDED_FIELD_URI); particle!(1, 1, T "Value" STRING, T "Values" VALUES) }

elements! { FOLDER [] =
particle!(0, 1, T "FolderId" ID); particle!(0, 1, T "ParentFolderId" ID); particle!(0, 1, T "FolderClass" STRING);
particle!(0, 1, T "DisplayName" STRING); particle!(0, 1, T "TotalCount" INT);
particle!(0, 1, T "ChildFolderCount" INT); particle!(0, ANY, T "ExtendedProperty" EXTENDED_PROPERTY);
particle!(0, 1, T "ManagedFolderInformation" ANYTHING); particle!(0, 1, T "EffectiveRights" ANYTHING);
particle!(0, 1, T "DistinguishedFolderId" STRING); particle!(0, 1, T "PolicyTag" ANYTHING);
particle!(0, 1, T "ArchiveTag" ANYTHING); particle!(0, 1, T "ReplicaList" STRINGS);
particle!(0, 1, T "PermissionSet" ANYTHING); particle!(0, 1, T "UnreadCount" INT) }
elements! { FOLDERS [] = particle!(1, ANY, T "Folder" FOLDER, T "TasksFolder" FOLDER, T "CalendarFolder" FOLDER, T "ContactsFolder" FOLDER) }

elements! { TASK [] =
particle!(0, 1, T "MimeContent" ANYTHING); particle!(0, 1, T "ItemId" ID); particle!(0, 1, T "ParentFolderId" ID);
particle!(0, 1, T "ItemClass" STRING); particle!(0, 1, T "Subject" STRING);
particle!(0, 1, T "Sensitivity" SENSITIVITY); particle!(0, 1, T "Body" BODY);
particle!(0, 1, T "Attachments" ANYTHING); particle!(0, 1, T "DateTimeReceived" DATE_TIME);
particle!(0, 1, T "Size" INT); particle!(0, 1, T "Categories" STRINGS); particle!(0, 1, T "Importance" IMPORTANCE);
particle!(0, 1, T "InReplyTo" STRING); particle!(0, 1, T "IsSubmitted" BOOLEAN);
particle!(0, 1, T "IsDraft" BOOLEAN); particle!(0, 1, T "IsFromMe" BOOLEAN); particle!(0, 1, T "IsResend" BOOLEAN);
particle!(0, 1, T "IsUnmodified" BOOLEAN); particle!(0, 1, T "InternetMessageHeaders" ANYTHING);
particle!(0, 1, T "DateTimeSent" DATE_TIME); particle!(0, 1, T "DateTimeCreated" DATE_TIME);
particle!(0, 1, T "ResponseObjects" ANYTHING); particle!(0, 1, T "ReminderDueBy" DATE_TIME);
particle!(0, 1, T "ReminderIsSet" BOOLEAN); particle!(0, 1, T "ReminderNextTime" DATE_TIME);
particle!(0, 1, T "ReminderMinutesBeforeStart" INT); particle!(0, 1, T "DisplayCc" STRING);
particle!(0, 1, T "DisplayTo" STRING); particle!(0, 1, T "DisplayBcc" STRING);
particle!(0, 1, T "HasAttachments" BOOLEAN); particle!(0, ANY, T "ExtendedProperty" EXTENDED_PROPERTY);
particle!(0, 1, T "Culture" STRING); particle!(0, 1, T "EffectiveRights" ANYTHING);
particle!(0, 1, T "LastModifiedName" STRING); particle!(0, 1, T "LastModifiedTime" DATE_TIME);
particle!(0, 1, T "IsAssociated" BOOLEAN); particle!(0, 1, T "Flag" ANYTHING);
particle!(0, 1, T "ActualWork" INT); particle!(0, 1, T "AssignedTime" DATE_TIME);
particle!(0, 1, T "BillingInformation" STRING); particle!(0, 1, T "ChangeCount" INT);
particle!(0, 1, T "Companies" STRINGS); particle!(0, 1, T "CompleteDate" DATE_TIME);
particle!(0, 1, T "Contacts" STRINGS); particle!(0, 1, T "DelegationState" DELEGATION);
particle!(0, 1, T "Delegator" STRING); particle!(0, 1, T "DueDate" DATE_TIME);
particle!(0, 1, T "IsAssignmentEditable" INT); particle!(0, 1, T "IsComplete" BOOLEAN);
particle!(0, 1, T "IsRecurring" BOOLEAN); particle!(0, 1, T "IsTeamTask" BOOLEAN);
particle!(0, 1, T "Mileage" STRING); particle!(0, 1, T "Owner" STRING);
particle!(0, 1, T "PercentComplete" DOUBLE); particle!(0, 1, T "Recurrence" ANYTHING);
particle!(0, 1, T "StartDate" DATE_TIME); particle!(0, 1, T "Status" STATUS);
particle!(0, 1, T "StatusDescription" STRING); particle!(0, 1, T "TotalWork" INT) }
elements! { ITEMS [] = particle!(1, ANY, T "Task" TASK) }

elements! { SET_ITEM_FIELD [] = path!(1, 1); particle!(1, 1, T "Task" TASK, T "Item" TASK) }
elements! { DELETE_FIELD [] = path!(1, 1) }
elements! { ITEM_UPDATES [] = particle!(1, ANY, T "AppendToItemField" SET_ITEM_FIELD, T "SetItemField" SET_ITEM_FIELD, T "DeleteItemField" DELETE_FIELD) }
elements! { ITEM_CHANGE [] = particle!(1, 1, T "ItemId" ID); particle!(1, 1, T "Updates" ITEM_UPDATES) }
elements! { ITEM_CHANGES [] = particle!(1, ANY, T "ItemChange" ITEM_CHANGE) }
elements! { SET_FOLDER_FIELD [] = path!(1, 1);
particle!(1, 1, T "Folder" FOLDER, T "TasksFolder" FOLDER, T "CalendarFolder" FOLDER, T "ContactsFolder" FOLDER) }
elements! { FOLDER_UPDATES [] = particle!(1, ANY, T "AppendToFolderField" SET_FOLDER_FIELD, T "SetFolderField" SET_FOLDER_FIELD, T "DeleteFolderField" DELETE_FIELD) }
elements! { FOLDER_CHANGE [] = particle!(1, 1, T "FolderId" ID, T "DistinguishedFolderId" DISTINGUISHED_ID); particle!(1, 1, T "Updates" FOLDER_UPDATES) }
elements! { FOLDER_CHANGES [] = particle!(1, ANY, T "FolderChange" FOLDER_CHANGE) }
elements! { FIELD_ORDER [required("Order", Simple::OneOf(&["Ascending", "Descending"]))] = path!(1, 1) }
elements! { SORT_ORDER [] = particle!(1, ANY, T "FieldOrder" FIELD_ORDER) }

elements! { RESOLVE_NAMES [
    required("ReturnFullContactData", Simple::Boolean),
    optional("SearchScope", Simple::OneOf(&["ActiveDirectory", "ActiveDirectoryContacts", "Contacts", "ContactsActiveDirectory"]))
] = particle!(0, 1, M "ParentFolderIds" FOLDER_IDS); particle!(1, 1, M "UnresolvedEntry" NON_EMPTY) }
elements! { GET_FOLDER [] = particle!(1, 1, M "FolderShape" FOLDER_SHAPE); particle!(1, 1, M "FolderIds" FOLDER_IDS) }
elements! { FIND_FOLDER [required("Traversal", Simple::OneOf(&["Shallow", "Deep", "SoftDeleted"]))] =
particle!(1, 1, M "FolderShape" FOLDER_SHAPE);
particle!(0, 1, M "IndexedPageFolderView" INDEXED_PAGE, M "FractionalPageFolderView" FRACTIONAL_PAGE);
particle!(0, 1, M "Restriction" RESTRICTION); particle!(1, 1, M "ParentFolderIds" FOLDER_IDS) }
elements! { CREATE_FOLDER [] = particle!(1, 1, M "ParentFolderId" FOLDER_ID); particle!(1, 1, M "Folders" FOLDERS) }
elements! { UPDATE_FOLDER [] = particle!(1, 1, M "FolderChanges" FOLDER_CHANGES) }
elements! { DELETE_FOLDER [required("DeleteType", DELETE_TYPES)] = particle!(1, 1, M "FolderIds" FOLDER_IDS) }
elements! { SYNC_FOLDER_HIERARCHY [] = particle!(1, 1, M "FolderShape" FOLDER_SHAPE);
particle!(0, 1, M "SyncFolderId" FOLDER_ID); particle!(0, 1, M "SyncState" STRING) }
elements! { SYNC_FOLDER_ITEMS [] = particle!(1, 1, M "ItemShape" ITEM_SHAPE); particle!(1, 1, M "SyncFolderId" FOLDER_ID);
particle!(0, 1, M "SyncState" STRING); particle!(0, 1, M "Ignore" IGNORED_IDS);
particle!(1, 1, M "MaxChangesReturned" MAX_CHANGES); particle!(0, 1, M "SyncScope" SYNC_SCOPE) }
elements! { GET_ITEM [] = particle!(1, 1, M "ItemShape" ITEM_SHAPE); particle!(1, 1, M "ItemIds" ITEM_IDS) }
elements! { FIND_ITEM [required("Traversal", Simple::OneOf(&["Shallow", "SoftDeleted", "Associated"]))] =
particle!(1, 1, M "ItemShape" ITEM_SHAPE);
particle!(0, 1, M "IndexedPageItemView" INDEXED_PAGE, M "FractionalPageItemView" FRACTIONAL_PAGE);
particle!(0, 1, M "Restriction" RESTRICTION); particle!(0, 1, M "SortOrder" SORT_ORDER);
particle!(1, 1, M "ParentFolderIds" FOLDER_IDS); particle!(0, 1, M "QueryString" STRING) }
elements! { CREATE_ITEM [optional("MessageDisposition", DISPOSITIONS), optional("SendMeetingInvitations", MEETING_SENDING)] =
particle!(0, 1, M "SavedItemFolderId" FOLDER_ID); particle!(1, 1, M "Items" ITEMS) }
elements! { UPDATE_ITEM [
    required("ConflictResolution", Simple::OneOf(&["NeverOverwrite", "AutoResolve", "AlwaysOverwrite"])),
    optional("MessageDisposition", DISPOSITIONS),
    optional("SendMeetingInvitationsOrCancellations", MEETING_UPDATES),
    optional("SuppressReadReceipts", Simple::Boolean)
] = particle!(0, 1, M "SavedItemFolderId" FOLDER_ID); particle!(1, 1, M "ItemChanges" ITEM_CHANGES) }
elements! { DELETE_ITEM [
    required("DeleteType", DELETE_TYPES),
    optional("SendMeetingCancellations", MEETING_SENDING),
    optional("AffectedTaskOccurrences", Simple::OneOf(&["AllOccurrences", "SpecifiedOccurrenceOnly"])),
    optional("SuppressReadReceipts", Simple::Boolean)
] = particle!(1, 1, M "ItemIds" ITEM_IDS) }

elements! { CONNECTING_SID [] = particle!(1, 1, T "PrincipalName" NON_EMPTY, T "SID" NON_EMPTY, T "PrimarySmtpAddress" NON_EMPTY, T "SmtpAddress" NON_EMPTY) }
elements! { IMPERSONATION [] = particle!(1, 1, T "ConnectingSID" CONNECTING_SID) }
static TIME_ZONE_DEFINITION: Type = Type {
    attributes: &[optional("Id", Simple::String), optional("Name", Simple::String)],
    content: Content::Any,
};
elements! { TIME_ZONE_CONTEXT [] = particle!(1, 1, T "TimeZoneDefinition" TIME_ZONE_DEFINITION) }
simple! { PRECISION = Simple::OneOf(&["Seconds", "Milliseconds"]); }
elements! {
/// The SOAP header. Its parts may come in any order.
pub(crate) HEADER [] = particle!(0, ANY, T "RequestServerVersion" SERVER_VERSION, T "ExchangeImpersonation" IMPERSONATION,
    T "TimeZoneContext" TIME_ZONE_CONTEXT, T "MailboxCulture" STRING, T "DateTimePrecision" PRECISION,
    T "ManagementRole" ANYTHING) }
elements! { BODY_ELEMENT [] = particle!(1, 1,
M "GetFolder" GET_FOLDER, M "FindFolder" FIND_FOLDER, M "CreateFolder" CREATE_FOLDER,
M "UpdateFolder" UPDATE_FOLDER, M "DeleteFolder" DELETE_FOLDER, M "SyncFolderHierarchy" SYNC_FOLDER_HIERARCHY,
M "SyncFolderItems" SYNC_FOLDER_ITEMS, M "GetItem" GET_ITEM, M "FindItem" FIND_ITEM,
M "CreateItem" CREATE_ITEM, M "UpdateItem" UPDATE_ITEM, M "DeleteItem" DELETE_ITEM, M "ResolveNames" RESOLVE_NAMES) }
elements! {
/// A complete request.
pub(crate) ENVELOPE [] = particle!(0, 1, S "Header" HEADER); particle!(1, 1, S "Body" BODY_ELEMENT) }

/// Returns the type of an operation's element.
#[cfg(test)]
pub(crate) fn operation(name: &str) -> Option<&'static Type> {
    let Content::Elements([particle]) = &BODY_ELEMENT.content else {
        return None;
    };
    particle
        .choice
        .iter()
        .find(|(_, known, _)| *known == name)
        .map(|(_, _, kind)| *kind)
}
