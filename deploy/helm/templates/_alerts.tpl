{{- /*
The alerts, each with `page` (a person gets up) or `ticket` severity, and with the first command to type. Those with
`spool` are for releases with a volume. A counter with labels appears with its first event, which increase() can't see;
`unless … offset` finds the series that were not there before.
*/}}
{{- define "audio-batch-worker.alerts" -}}
{{- $own := include "audio-batch-worker.matchers" . }}
{{- $by := "by (namespace, job)" }}
{{- $full := include "audio-batch-worker.fullname" . }}
{{- $abw := printf "kubectl -n %s exec deployment/%s -c worker -- audio-batch-worker" .Release.Namespace $full }}
{{- $logs := printf "kubectl -n %s logs -l app.kubernetes.io/instance=%s,app.kubernetes.io/component=worker -c worker --since=1h --tail=-1" .Release.Namespace .Release.Name }}
{{- $limits := .Values.prometheusRule.thresholds }}
- alert: AudioBatchOldestAudioLate
  expr: >-
    max {{ $by }} (audio_batch_oldest_unstored_seconds{ {{- $own -}} }) > {{ $limits.oldestAudioWarning }}
  for: 2m
  severity: ticket
  summary: Audio has been waiting for {{`{{ $value | humanizeDuration }}`}}, more than {{ $limits.oldestAudioWarning }} s
  description: >-
    Audio is stored within a minute or two as a rule. Nothing is lost while Redis has memory. See what waits, and where: {{ $abw }} status
- alert: AudioBatchOldestAudioVeryLate
  expr: >-
    max {{ $by }} (audio_batch_oldest_unstored_seconds{ {{- $own -}} }) > {{ $limits.oldestAudioCritical }}
  for: 1m
  severity: page
  summary: Audio has been waiting for {{`{{ $value | humanizeDuration }}`}} and piles up in Redis' memory
  description: >-
    Redis fills with audio that is not stored, and refuses pushes when it is full. The first lines tell why: {{ $abw }} status
- alert: AudioBatchEntriesLost
  expr: >-
    sum {{ $by }} (increase(audio_batch_lost_entries_total{ {{- $own -}} }[15m])) > 0
    or sum {{ $by }} (audio_batch_lost_entries_total{ {{- $own -}} } unless audio_batch_lost_entries_total{ {{- $own -}} } offset 15m) > 0
  severity: page
  summary: Audio entries vanished from Redis before they were stored
  description: >-
    Another program, an eviction or a failover to a replica that was behind removed entries from a stream. That audio is gone. The times and the partitions are in the workers' logs: {{ $logs }} | grep entries.lost
- alert: AudioBatchDeadLetters
  expr: >-
    sum by (namespace, job, kind) (increase(audio_batch_dead_letters_total{ {{- $own -}} }[15m])) > 0
    or sum by (namespace, job, kind) (audio_batch_dead_letters_total{ {{- $own -}} } unless audio_batch_dead_letters_total{ {{- $own -}} } offset 15m) > 0
  severity: ticket
  summary: Entries went to the dead letters ({{`{{ $labels.kind }}`}})
  description: >-
    Workers keep entries that they can't process, with the reason. Their audio stays in Redis until a person decides: {{ $abw }} dead-letters ls
- alert: AudioBatchDeadLettersPileUp
  expr: >-
    sum {{ $by }} (audio_batch_dead_letters_bytes{ {{- $own -}} }) / max {{ $by }} (audio_batch_redis_memory_limit_bytes{ {{- $own -}} } > 0) > {{ $limits.deadLetters }}
  for: 5m
  severity: ticket
  summary: Dead letters take {{`{{ $value | humanizePercentage }}`}} of Redis' memory
  description: >-
    Dead letters stay until a person removes them, and Redis refuses audio when it is full of them. See the reasons: {{ $abw }} dead-letters ls
- alert: AudioBatchBatchesFail
  expr: >-
    sum by (namespace, job, error) (increase(audio_batch_batch_failures_total{ {{- $own -}} }[15m])) > 0
    or sum by (namespace, job, error) (audio_batch_batch_failures_total{ {{- $own -}} } unless audio_batch_batch_failures_total{ {{- $own -}} } offset 15m) > 0
  severity: page
  summary: Batches fail with {{`{{ $labels.error }}`}} and are tried again; their audio piles up in Redis
  description: >-
    The worker met an error that it does not know. The audio stays in Redis. The traceback is in the workers' logs: {{ $logs }} | grep batch.failed
- alert: AudioBatchStoreRefusing
  expr: >-
    max {{ $by }} (audio_batch_store_failing_seconds{ {{- $own -}} }) > {{ $limits.storeFailing }}
    and sum {{ $by }} (increase(audio_batch_store_retries_total{ {{- $own -}} }[65m])) > 0
  for: 1m
  severity: page
  summary: The store has refused everything for {{`{{ $value | humanizeDuration }}`}}
  description: >-
    No blob gets into the bucket. Redis holds the audio, and the spool if there is one. The cause is in the workers' logs: {{ $logs }} | grep store.refused
- alert: AudioBatchStoreNameTaken
  expr: >-
    sum {{ $by }} (increase(audio_batch_store_conflicts_total{ {{- $own -}} ,outcome=~"foreign|damaged"}[15m])) > 0
    or sum {{ $by }} (audio_batch_store_conflicts_total{ {{- $own -}} ,outcome=~"foreign|damaged"} unless audio_batch_store_conflicts_total{ {{- $own -}} ,outcome=~"foreign|damaged"} offset 15m) > 0
  severity: ticket
  summary: An object of other content, or a damaged one, had the name of a blob; both were kept
  description: >-
    Another program writes to this bucket, or an object was damaged. The worker stored its blob under a later name. The objects are in the workers' logs: {{ $logs }} | grep store.conflict
- alert: AudioBatchSpoolFilling
  spool: true
  expr: >-
    max {{ $by }} (audio_batch_spool_bytes{ {{- $own -}} } / (audio_batch_spool_limit_bytes{ {{- $own -}} } > 0)) > {{ $limits.spoolFilling }}
  for: 5m
  severity: page
  summary: The spool is {{`{{ $value | humanizePercentage }}`}} full because the store does not take its blobs
  description: >-
    When the spool is full, Redis holds the audio. Solve the store's trouble first. See what waits: {{ $abw }} spool ls
- alert: AudioBatchSpoolRefusing
  spool: true
  expr: >-
    sum by (namespace, job, cause) (increase(audio_batch_spool_refusals_total{ {{- $own -}} }[15m])) > 0
    or sum by (namespace, job, cause) (audio_batch_spool_refusals_total{ {{- $own -}} } unless audio_batch_spool_refusals_total{ {{- $own -}} } offset 15m) > 0
  severity: page
  summary: The spool does not take blobs ({{`{{ $labels.cause }}`}}); Redis holds the audio
  description: >-
    The volume is full, lost or not writable. Redis holds the audio meanwhile. The volume's own error is in the workers' logs: {{ $logs }} | grep spool.refuses
- alert: AudioBatchSpoolDamaged
  spool: true
  expr: >-
    max {{ $by }} (audio_batch_spool_blobs{ {{- $own -}} ,state=~"damaged|torn"}) > 0
  for: 1m
  severity: page
  summary: Spooled audio can't be read, and Redis does not hold it any more
  description: >-
    The file in the spool was the only copy of this audio. See which file it is, and what is wrong with it: {{ $abw }} spool verify
- alert: AudioBatchPartitionUnowned
  expr: >-
    min {{ $by }} (audio_batch_partitions_unowned{ {{- $own -}} }) > 0
  for: 2m
  severity: page
  summary: No worker owns {{`{{ $value }}`}} of the partitions; their audio waits in Redis
  description: >-
    Their audio is not read until a worker takes the partitions. See who works, and what has no owner: {{ $abw }} status
- alert: AudioBatchNoWorkers
  expr: >-
    absent(audio_batch_build_info{ {{- $own -}} })
  for: 2m
  severity: page
  summary: No worker is running, or none is scraped
  description: >-
    Audio waits in Redis, or Prometheus does not see the workers. See whether pods run: kubectl -n {{ .Release.Namespace }} get pods -l app.kubernetes.io/instance={{ .Release.Name }}
- alert: AudioBatchRedisMemoryHigh
  expr: >-
    max {{ $by }} (audio_batch_redis_memory_bytes{ {{- $own -}} } / (audio_batch_redis_memory_limit_bytes{ {{- $own -}} } > 0)) > {{ $limits.redisMemoryWarning }}
  for: 2m
  severity: ticket
  summary: Redis uses {{`{{ $value | humanizePercentage }}`}} of its memory
  description: >-
    Nothing is lost until Redis is full; then it refuses pushes. See what takes the memory: {{ $abw }} status
- alert: AudioBatchRedisMemoryFull
  expr: >-
    max {{ $by }} (audio_batch_redis_memory_bytes{ {{- $own -}} } / (audio_batch_redis_memory_limit_bytes{ {{- $own -}} } > 0)) > {{ $limits.redisMemoryCritical }}
  for: 1m
  severity: page
  summary: Redis uses {{`{{ $value | humanizePercentage }}`}} of its memory; at 100 % it refuses audio
  description: >-
    Give Redis memory now. Do not trim streams and do not allow eviction, because both delete audio. See what takes the memory: {{ $abw }} status
- alert: AudioBatchRedisEvicts
  expr: >-
    max by (namespace, job, policy) (audio_batch_redis_eviction_policy{ {{- $own -}} ,policy=~"allkeys-.+"}) > 0
  for: 1m
  severity: page
  summary: When it is full, Redis deletes audio that is not stored (maxmemory-policy {{`{{ $labels.policy }}`}})
  description: >-
    A full Redis deletes audio that is not stored, and reports no error. Set maxmemory-policy noeviction, now and in Redis' configuration.
- alert: AudioBatchRedisForgets
  expr: >-
    max by (namespace, job, policy) (audio_batch_redis_eviction_policy{ {{- $own -}} ,policy=~"volatile-.+"}) > 0
  for: 10m
  severity: ticket
  summary: When it is full, Redis forgets what workers recorded (maxmemory-policy {{`{{ $labels.policy }}`}})
  description: >-
    A full Redis forgets leases, which pushes were repeated and what was deleted. Set maxmemory-policy noeviction, now and in Redis' configuration.
- alert: AudioBatchRedisNotSaved
  expr: >-
    max {{ $by }} (audio_batch_redis_persistence{ {{- $own -}} ,state="off"}) > 0
    and max {{ $by }} (audio_batch_redis_replicas{ {{- $own -}} }) == 0
  for: 10m
  severity: ticket
  summary: A crash of Redis loses what is not stored, because it has no append-only file and no replica
  description: >-
    All audio that is not stored is in the memory of one Redis server. Set appendonly yes, or add a replica. See what Redis says: {{ $abw }} status
- alert: AudioBatchRedisSavingFails
  expr: >-
    max {{ $by }} (audio_batch_redis_persistence{ {{- $own -}} ,state="failing"}) > 0
  for: 1m
  severity: page
  summary: Redis can't write its append-only file and refuses pushes
  description: >-
    Its disk is full or broken. What a crash of Redis would take is lost, and pushers have to keep their audio. See Redis' own log and its disk.
- alert: AudioBatchRedisAway
  expr: >-
    min {{ $by }} (sum by (namespace, job, pod) (rate(audio_batch_redis_errors_total{ {{- $own -}} ,cause="connection"}[2m]))) > 0.3
  for: 1m
  severity: page
  summary: No worker reaches Redis; pushers have to keep audio
  description: >-
    Nothing is read or stored, and pushers keep audio only as long as their buffers last. Redis' words are in the workers' logs: {{ $logs }} | grep consumer.redis_failed
- alert: AudioBatchRedisNodeDown
  expr: >-
    max {{ $by }} (audio_batch_redis_nodes{ {{- $own -}} ,state="down"}) > 0
  for: 1m
  severity: page
  summary: A node of the Redis Cluster does not answer; its partitions wait
  description: >-
    Nothing of its partitions is read or stored, and pushers have to keep their audio. The other nodes go on. See which node it is, and what it says: {{ $abw }} status
- alert: AudioBatchRedisErrors
  expr: >-
    sum {{ $by }} (rate(audio_batch_redis_errors_total{ {{- $own -}} }[5m])) > 0.2
  for: 5m
  severity: ticket
  summary: Requests to Redis keep failing
  description: >-
    Workers try again, and audio may be late. The cause is in the workers' logs: {{ $logs }} | grep redis_failed
- alert: AudioBatchLeasesLost
  expr: >-
    sum {{ $by }} (increase(audio_batch_leases_lost_total{ {{- $own -}} }[15m])) > 3
  severity: ticket
  summary: Workers lose leases they still wanted
  description: >-
    Workers or Redis pause for longer than LEASE_TTL. Nothing is lost, but work is done twice. See which partitions: {{ $logs }} | grep partitions.lost
- alert: AudioBatchReadingPaused
  expr: >-
    avg {{ $by }} (avg_over_time(audio_batch_reading_paused{ {{- $own -}} }[10m])) > 0.5
  for: 5m
  severity: ticket
  summary: Workers stop reading most of the time because their memory is full
  description: >-
    Audio waits in Redis until uploads free memory. Mostly the store is slow. See what waits: {{ $abw }} status
- alert: AudioBatchEventLoopSlow
  expr: >-
    histogram_quantile(0.99, sum by (namespace, job, pod, le) (rate(audio_batch_event_loop_delay_seconds_bucket{ {{- $own -}} }[5m]))) > 0.5
  for: 10m
  severity: ticket
  summary: The event loop of {{`{{ $labels.pod }}`}} is {{`{{ $value | humanizeDuration }}`}} late
  description: >-
    The worker lacks CPU, or has more encoder threads than CPUs. See its CPU: kubectl -n {{ .Release.Namespace }} top pod -l app.kubernetes.io/instance={{ .Release.Name }} --containers
- alert: AudioBatchChunksMissing
  expr: >-
    sum {{ $by }} (increase(audio_batch_seq_missing_total{ {{- $own -}} }[30m])) > 0
  severity: ticket
  summary: Pushers skipped chunk numbers; that audio never reached Redis
  description: >-
    A pusher counted chunks that it never pushed, or whose push was refused. The worker can't bring them back. Look at the pushers' logs of this time.
- alert: AudioBatchChunksMisplaced
  expr: >-
    sum {{ $by }} (increase(audio_batch_misplaced_chunks_total{ {{- $own -}} }[30m])) > 0
  severity: ticket
  summary: Chunks are pushed into other streams than those of their conversations
  description: >-
    A pusher computes another partition than workers do. The audio is stored, but deletions and audit do not see it while it waits. Compare the pushers' number of partitions with config.partitions.
- alert: AudioBatchStrayStreams
  expr: >-
    max {{ $by }} (audio_batch_stray_entries{ {{- $own -}} }) > 0
  for: 5m
  severity: page
  summary: '{{`{{ $value }}`}} entries wait in streams that no worker reads'
  description: >-
    A pusher writes into a stream that belongs to no partition. The audio is safe in Redis, but no worker stores it. `audio-batch-worker streams ls` names the streams and the reasons.
- alert: AudioBatchTwoRevisions
  expr: >-
    count {{ $by }} (count by (namespace, job, revision) (audio_batch_build_info{ {{- $own -}} })) > 1
  for: 30m
  severity: ticket
  summary: A rollout does not finish
  description: >-
    Pods of two revisions have run side by side for half an hour. See what the new ones wait for: kubectl -n {{ .Release.Namespace }} rollout status deployment/{{ $full }} --timeout=5s
{{- end }}
