//! The calls into librdkafka that rdkafka does not wrap, or wraps at a price, behind a safe border: committing a
//! transaction (rdkafka's own call waits 100 ms whenever a message is in flight), the generation in a consumer's group
//! metadata (without it a member that was thrown out would commit unfenced), fetching in batches (a fifth of the cost
//! of polling message by message), cached watermarks, and what a user may do; and an end of the process that its clients
//! do not notice. The one file with `unsafe`.
#![expect(unsafe_code, reason = "librdkafka's C functions; each block says why it is sound")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::client::Consumer;
use super::errors::CallError;
use super::rights::Rights;

unsafe extern "C" {
    /// POSIX's: asks for nothing of the process, and never returns.
    safe fn _exit(status: c_int) -> !;
}

/// Ends the process while clients live. `exit` would run OpenSSL's handler first, which frees what a client that is being
/// made, or shakes hands, still uses: of 100 that got SIGTERM while the first TLS client was made, 80 ended by SIGSEGV.
/// Nothing is flushed.
pub fn exit_at_once(code: i32) -> ! {
    _exit(code)
}

/// Flushes and commits the open transaction. The C call flushes by itself, with a linger of 0 meanwhile.
///
/// A retriable error means: call again, and nothing else in between.
pub fn commit_transaction<C: ClientContext>(client: &Client<C>, wait: Duration) -> Result<(), CallError> {
    // SAFETY: the client is alive for as long as the reference; the call may be made from any thread.
    let error = unsafe { sys::rd_kafka_commit_transaction(client.native_ptr(), wait_ms(wait)) };
    take_error(error)
}

/// Waits until all records are acknowledged or given up, with a linger of 0 meanwhile; false where `wait` has passed.
/// rdkafka's own call looks only every 100 ms.
pub fn flush<C: ClientContext>(client: &Client<C>, wait: Duration) -> bool {
    // SAFETY: the client is alive for as long as the reference; the call may be made from any thread.
    let error = unsafe { sys::rd_kafka_flush(client.native_ptr(), wait_ms(wait)) };
    error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// Adds the group's offsets to the open transaction; the broker checks the generation in `group` at this call.
pub fn send_offsets<C: ClientContext>(
    client: &Client<C>,
    offsets: &TopicPartitionList,
    group: &GroupMetadata,
    wait: Duration,
) -> Result<(), CallError> {
    // SAFETY: client, list and metadata are alive for as long as the references; the call copies what it keeps.
    let error = unsafe {
        sys::rd_kafka_send_offsets_to_transaction(
            client.native_ptr(),
            offsets.ptr(),
            group.metadata.as_ptr(),
            wait_ms(wait),
        )
    };
    take_error(error)
}

/// Who a consumer is in its group at one moment. Fences the offsets that are committed with it.
pub struct GroupMetadata {
    metadata: NonNull<sys::rd_kafka_consumer_group_metadata_t>,
}

/// What a broker tells, or the code of its refusal.
type Told<T> = Result<T, RDKafkaErrorCode>;

/// The id that the cluster gave a topic when it was made: another one of the same name has another. `None` where the broker
/// does not tell, or is away.
pub fn topic_id<C: ClientContext>(client: &Client<C>, topic: &str, wait: Duration) -> Option<String> {
    // SAFETY: the description is alive; the text is copied.
    let read = |topic: &sys::rd_kafka_TopicDescription_t| unsafe {
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let text = if id.is_null() { ptr::null() } else { sys::rd_kafka_Uuid_base64str(id) };
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    describe_topic(client, topic, wait, read).ok().flatten()
}

/// What the client's user may do with a topic.
pub fn topic_rights<C: ClientContext>(client: &Client<C>, topic: &str, wait: Duration) -> Told<Rights> {
    describe_topic(client, topic, wait, |topic| {
        let mut count = 0;
        // SAFETY: the description is alive, and the list as long as it.
        unsafe {
            let list = sys::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
            rights(list, count)
        }
    })?
}

/// The same with a group, which need not be there.
pub fn group_rights<C: ClientContext>(client: &Client<C>, group: &str, wait: Duration) -> Told<Rights> {
    let name = CString::new(group).map_err(|_| RDKafkaErrorCode::InvalidGroupId)?;
    let mut names = [name.as_ptr()];
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let ask = |rk, options, queue| {
        // SAFETY: all are alive, and the name is copied.
        unsafe { sys::rd_kafka_DescribeConsumerGroups(rk, names.as_mut_ptr(), names.len(), options, queue) }
    };
    let read = |event| {
        let mut count = 0;
        // SAFETY: the event is alive, and so is all that belongs to it; null where it is of another kind.
        unsafe {
            let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event);
            if result.is_null() {
                return Err(RDKafkaErrorCode::InvalidType);
            }
            let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
            if groups.is_null() || count == 0 {
                return Err(RDKafkaErrorCode::InvalidType);
            }
            refusal(sys::rd_kafka_ConsumerGroupDescription_error(*groups))?;
            let list = sys::rd_kafka_ConsumerGroupDescription_authorized_operations(*groups, &raw mut count);
            rights(list, count)
        }
    };
    admin(client, op, wait, ask, read)
}

/// # Safety
/// The list is null, or has so many operations.
unsafe fn rights(list: *const sys::rd_kafka_AclOperation_t, count: usize) -> Told<Rights> {
    if list.is_null() {
        return Err(RDKafkaErrorCode::UnsupportedFeature);
    }
    // SAFETY: the caller's promise. As numbers, since a broker may name an operation that the bindings do not know.
    Ok(Rights::of(unsafe { std::slice::from_raw_parts(list.cast::<i32>(), count) }))
}

/// Reads what the broker says of one topic.
fn describe_topic<C: ClientContext, T>(
    client: &Client<C>,
    topic: &str,
    wait: Duration,
    read: impl FnOnce(&sys::rd_kafka_TopicDescription_t) -> T,
) -> Told<T> {
    let name = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    let mut names = [name.as_ptr()];
    let ask = |rk, options, queue| {
        // SAFETY: all are alive; the collection is ours, and destroyed once: the call copies it.
        unsafe {
            let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            sys::rd_kafka_DescribeTopics(rk, topics, options, queue);
            sys::rd_kafka_TopicCollection_destroy(topics);
        }
    };
    let read = |event| {
        let mut count = 0;
        // SAFETY: the event is alive, and so is all that belongs to it; null where it is of another kind.
        unsafe {
            let result = sys::rd_kafka_event_DescribeTopics_result(event);
            if result.is_null() {
                return Err(RDKafkaErrorCode::InvalidType);
            }
            let described = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            if described.is_null() || count == 0 {
                return Err(RDKafkaErrorCode::InvalidType);
            }
            refusal(sys::rd_kafka_TopicDescription_error(*described))?;
            Ok(read(&**described))
        }
    };
    admin(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, wait, ask, read)
}

/// One question of an administrator's client, and its answer.
fn admin<C: ClientContext, T>(
    client: &Client<C>,
    op: sys::rd_kafka_admin_op_t,
    wait: Duration,
    ask: impl FnOnce(*mut sys::rd_kafka_t, *const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    read: impl FnOnce(*mut sys::rd_kafka_event_t) -> Told<T>,
) -> Told<T> {
    let rk = client.native_ptr();
    // SAFETY: the client is alive for as long as the reference. Queue, options and event are ours and destroyed once; what
    // is read of the event is copied before that.
    unsafe {
        let queue = sys::rd_kafka_queue_new(rk);
        let options = sys::rd_kafka_AdminOptions_new(rk, op);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, wait_ms(wait), ptr::null_mut(), 0);
        drop(take_error(sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1)));
        ask(rk, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, wait_ms(wait));
        let answer = if event.is_null() {
            Err(RDKafkaErrorCode::OperationTimedOut)
        } else {
            let code = sys::rd_kafka_event_error(event);
            let answer = refused(code).and_then(|()| read(event));
            sys::rd_kafka_event_destroy(event);
            answer
        };
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// # Safety
/// The error is null or alive.
unsafe fn refusal(error: *const sys::rd_kafka_error_t) -> Told<()> {
    // SAFETY: the caller's promise.
    if error.is_null() { Ok(()) } else { refused(unsafe { sys::rd_kafka_error_code(error) }) }
}

fn refused(code: sys::rd_kafka_resp_err_t) -> Told<()> {
    if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(code.into()) }
}

// SAFETY: an immutable C structure without ties to a thread or to the consumer it came from.
unsafe impl Send for GroupMetadata {}

impl GroupMetadata {
    /// Asks the consumer's own thread; no request to a broker. `None` for a consumer without a group.
    pub fn of(consumer: &Consumer) -> Option<Self> {
        // SAFETY: the client is alive for as long as the reference; the result is ours to destroy.
        let metadata = unsafe { sys::rd_kafka_consumer_group_metadata(consumer.client().native_ptr()) };
        NonNull::new(metadata).map(|metadata| Self { metadata })
    }

    /// As of a consumer that is no member: generation −1. Brokers do not check such a one, so it must be refused here.
    pub fn without_membership(group: &str) -> Option<Self> {
        let group = CString::new(group).ok()?;
        // SAFETY: the string is copied; the result is ours to destroy.
        let metadata = unsafe { sys::rd_kafka_consumer_group_metadata_new(group.as_ptr()) };
        NonNull::new(metadata).map(|metadata| Self { metadata })
    }

    /// As of a member, for a broker that is a mock.
    #[cfg(test)]
    pub(crate) fn of_generation(generation: i32) -> Self {
        // SAFETY: the strings are copied; the result is ours to destroy.
        let metadata = unsafe {
            sys::rd_kafka_consumer_group_metadata_new_with_genid(
                c"group".as_ptr(),
                generation,
                c"member".as_ptr(),
                ptr::null(),
            )
        };
        Self { metadata: NonNull::new(metadata).expect("metadata of valid strings") }
    }

    /// Below 0 where the consumer is no member of its group.
    pub fn generation(&self) -> i32 {
        // SAFETY: reads a field of a structure that we own.
        unsafe { sys::rd_kafka_consumer_group_metadata_generation_id(self.metadata.as_ptr()) }
    }

    /// The name that the group gave the consumer when it joined; empty while it is no member.
    pub fn member(&self) -> String {
        // SAFETY: a field of a structure that we own; the text is copied.
        unsafe {
            let id = sys::rd_kafka_consumer_group_metadata_member_id(self.metadata.as_ptr());
            if id.is_null() { String::new() } else { CStr::from_ptr(id).to_string_lossy().into_owned() }
        }
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: owned, and destroyed here alone.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.metadata.as_ptr()) }
    }
}

impl fmt::Debug for GroupMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupMetadata").field("generation", &self.generation()).finish()
    }
}

/// One queue for the records of all partitions that are read, emptied in batches. The consumer's own queue keeps the
/// rebalances and errors of the client and must be polled besides. The limits on prefetched bytes count for the whole
/// queue, as they do for the consumer's own.
pub struct FetchQueue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    consumer: Arc<Consumer>,
}

// SAFETY: librdkafka's queues may be used from any thread; `take` asks for `&mut self`, since two batch calls at once on
// one client are not allowed.
unsafe impl Send for FetchQueue {}

impl FetchQueue {
    pub fn new(consumer: Arc<Consumer>) -> Self {
        // SAFETY: the client is alive; the queue holds a reference of its own, given back in `drop`.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        Self { queue: NonNull::new(queue).expect("a queue of a living client"), consumer }
    }

    /// Directs a partition's records here. Before each assignment of it, so that none reaches the consumer's own queue.
    pub fn forward(&self, topic: &CStr, partition: i32) -> Result<(), UnknownPartition> {
        // SAFETY: the client is alive and the name ends in a zero byte; the result is ours to destroy.
        let source = unsafe {
            sys::rd_kafka_queue_get_partition(self.consumer.client().native_ptr(), topic.as_ptr(), partition)
        };
        if source.is_null() {
            return Err(UnknownPartition { partition });
        }
        // SAFETY: both queues are alive; forwarding takes its own references, so ours to `source` can go.
        unsafe {
            sys::rd_kafka_queue_forward(source, self.queue.as_ptr());
            sys::rd_kafka_queue_destroy(source);
        }
        Ok(())
    }

    /// Nothing yet, to be filled by [`Self::take`].
    pub fn messages(&self) -> Messages {
        Messages { list: Vec::new(), bytes: 0, _consumer: Arc::clone(&self.consumer) }
    }

    /// Moves up to `count_max` records into `messages`; waits until that many have come or `wait` has passed. What came
    /// in place of a record (a lost offset, the end of a partition) is the result, in order.
    pub fn take(&mut self, messages: &mut Messages, count_max: usize, wait: Duration) -> Vec<FetchError> {
        let before = messages.list.len();
        messages.list.reserve(count_max);
        let free: *mut *mut sys::rd_kafka_message_t = messages.list.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: there is room for `count_max` pointers. The queue has only fetched records and partition errors in it
        // (rebalances stay on the consumer's own), so no callback is called here.
        let count = unsafe { sys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait_ms(wait), free, count_max) };
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: the call has written that many pointers, none of them null; each message is ours to destroy.
        unsafe { messages.list.set_len(before + count) };

        let mut errors = Vec::new();
        for message in &messages.list[before..] {
            // SAFETY: alive until destroyed, which `Messages` does.
            let message = unsafe { message.as_ref() };
            if message.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                messages.bytes += message.len + message.key_len;
            } else {
                errors.push(FetchError::of(message));
            }
        }
        if !errors.is_empty() {
            messages.drop_errors(before);
        }
        errors
    }
}

impl Drop for FetchQueue {
    fn drop(&mut self) {
        // SAFETY: our reference, given back once; forwarding partitions hold their own.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

impl fmt::Debug for FetchQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchQueue").finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the client knows no partition {partition}")]
pub struct UnknownPartition {
    pub partition: i32,
}

/// What came in place of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchError {
    pub partition: i32,
    /// At the end of a partition: the offset that the next record will have at the least.
    pub offset: i64,
    pub code: RDKafkaErrorCode,
    pub text: String,
}

impl FetchError {
    fn of(message: &sys::rd_kafka_message_t) -> Self {
        // SAFETY: the message is alive; the text is a string of the message or a static one.
        let text = unsafe {
            let text = sys::rd_kafka_message_errstr(message);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        Self { partition: message.partition, offset: message.offset, code: message.err.into(), text }
    }
}

/// Fetched records in the client's own memory, in the order of each partition. Keeps the client alive.
pub struct Messages {
    list: Vec<NonNull<sys::rd_kafka_message_t>>,
    /// Keys and values.
    bytes: usize,
    _consumer: Arc<Consumer>,
}

// SAFETY: messages may be read and destroyed on any thread, and this is their one owner. Not Sync: reading headers
// parses them into the message at the first call.
unsafe impl Send for Messages {}

impl Messages {
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Message<'_>> + ExactSizeIterator {
        // SAFETY: the messages live as long as `self`, and nothing writes their public fields.
        self.list.iter().map(|message| Message(unsafe { message.as_ref() }))
    }

    /// Forgets the records that the caller does not want.
    pub fn retain(&mut self, mut wanted: impl FnMut(Message<'_>) -> bool) {
        let mut bytes = 0;
        self.list.retain(|message| {
            // SAFETY: alive until destroyed, which happens below and in `drop` only, once, since it leaves the list.
            let message_ref = unsafe { message.as_ref() };
            let keep = wanted(Message(message_ref));
            if keep {
                bytes += message_ref.len + message_ref.key_len;
            } else {
                // SAFETY: as above; no reference to it is used after this.
                unsafe { sys::rd_kafka_message_destroy(message.as_ptr()) }
            }
            keep
        });
        self.bytes = bytes;
    }

    fn drop_errors(&mut self, from: usize) {
        let mut index = 0;
        self.retain(|message| {
            index += 1;
            index <= from || message.0.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        });
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        for message in self.list.drain(..) {
            // SAFETY: owned, and destroyed here alone; the client is still alive.
            unsafe { sys::rd_kafka_message_destroy(message.as_ptr()) }
        }
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("len", &self.len()).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// One record in the client's memory.
#[derive(Clone, Copy)]
pub struct Message<'a>(&'a sys::rd_kafka_message_t);

impl<'a> Message<'a> {
    pub fn partition(self) -> i32 {
        self.0.partition
    }

    pub fn offset(self) -> i64 {
        self.0.offset
    }

    pub fn key(self) -> Option<&'a [u8]> {
        // SAFETY: the two fields describe memory of the message, which lives for 'a.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    pub fn value(self) -> Option<&'a [u8]> {
        // SAFETY: as for the key.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    /// Milliseconds since the epoch; `None` where the topic has no timestamps.
    pub fn timestamp_ms(self) -> Option<i64> {
        // SAFETY: the message is alive; the kind of timestamp is not asked for.
        let timestamp = unsafe { sys::rd_kafka_message_timestamp(self.0, ptr::null_mut()) };
        (timestamp >= 0).then_some(timestamp)
    }

    /// The last header of that name.
    pub fn header(self, name: &CStr) -> Option<&'a [u8]> {
        let mut headers = ptr::null_mut();
        let mut value: *const c_void = ptr::null();
        let mut size = 0;
        // SAFETY: parses the headers into the message at the first call: `Messages` is not Sync, so no other thread
        // does it at the same time. The headers, and with them the value, live as long as the message.
        unsafe {
            let none = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            if sys::rd_kafka_message_headers(self.0, &raw mut headers) != none
                || sys::rd_kafka_header_get_last(headers, name.as_ptr(), &raw mut value, &raw mut size) != none
            {
                return None;
            }
            bytes(value.cast_mut(), size)
        }
    }
}

impl<'a> Message<'a> {
    /// All headers, in their order; a name that is no UTF-8 is mended.
    pub fn headers(self) -> Vec<(String, Option<&'a [u8]>)> {
        let none = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        let mut headers = ptr::null_mut();
        let mut found = Vec::new();
        // SAFETY: as for `header`.
        if unsafe { sys::rd_kafka_message_headers(self.0, &raw mut headers) } != none {
            return found;
        }
        loop {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers are alive; past the last one the call says so and writes nothing. Names end in a
            // zero byte, and both parts live as long as the message.
            unsafe {
                let index = found.len();
                let code = sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size);
                if code != none {
                    return found;
                }
                found.push((CStr::from_ptr(name).to_string_lossy().into_owned(), bytes(value.cast_mut(), size)));
            }
        }
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("partition", &self.0.partition).field("offset", &self.0.offset).finish()
    }
}

/// The low and high watermark of a partition as the last fetch response had them; no request. `None` before the first.
/// High is the high watermark also for a reader of committed records.
pub fn cached_watermarks<C: ClientContext>(client: &Client<C>, topic: &CStr, partition: i32) -> Option<(i64, i64)> {
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client is alive, the name ends in a zero byte, the two numbers are written.
    let error = unsafe {
        sys::rd_kafka_get_watermark_offsets(client.native_ptr(), topic.as_ptr(), partition, &raw mut low, &raw mut high)
    };
    (error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some((low, high))
}

/// # Safety
/// `pointer` is null, or `len` bytes from it on can be read for 'a.
unsafe fn bytes<'a>(pointer: *mut c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!pointer.is_null()).then(|| unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().cast_const(), len) })
}

/// Milliseconds, rounded up, so that a wait that is not over is never 0.
fn wait_ms(wait: Duration) -> i32 {
    i32::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX)
}

fn take_error(error: *mut sys::rd_kafka_error_t) -> Result<(), CallError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a living error object; its text is a zero-terminated string that lives as long.
    let call_error = unsafe {
        let text: *const c_char = sys::rd_kafka_error_string(error);
        CallError {
            code: sys::rd_kafka_error_code(error).into(),
            fatal: sys::rd_kafka_error_is_fatal(error) != 0,
            retriable: sys::rd_kafka_error_is_retriable(error) != 0,
            requires_abort: sys::rd_kafka_error_txn_requires_abort(error) != 0,
            text: CStr::from_ptr(text).to_string_lossy().into_owned(),
        }
    };
    // SAFETY: ours, destroyed once.
    unsafe { sys::rd_kafka_error_destroy(error) };
    Err(call_error)
}
