{{- /*
The alerts, each with `page` (somebody gets up) or `ticket` severity. A counter with labels appears with its first
event, which increase() can't see; `unless … offset` finds the series that were not there before.
*/}}
{{- define "audio-batch-worker.alerts" -}}
{{- $own := include "audio-batch-worker.matchers" . }}
{{- $by := "by (namespace, job)" }}
{{- $limits := .Values.prometheusRule.thresholds }}
- alert: AudioBatchOldestAudioLate
  expr: max {{ $by }} (audio_batch_oldest_unstored_seconds{ {{- $own -}} }) > {{ $limits.oldestAudioWarning }}
  for: 2m
  severity: ticket
  summary: Audio has been waiting for {{`{{ $value | humanizeDuration }}`}}, more than {{ $limits.oldestAudioWarning }} s
- alert: AudioBatchOldestAudioVeryLate
  expr: max {{ $by }} (audio_batch_oldest_unstored_seconds{ {{- $own -}} }) > {{ $limits.oldestAudioCritical }}
  for: 1m
  severity: page
  summary: Audio has been waiting for {{`{{ $value | humanizeDuration }}`}} and piles up in Redis' memory
- alert: AudioBatchEntriesLost
  expr: >-
    sum {{ $by }} (increase(audio_batch_lost_entries_total{ {{- $own -}} }[15m])) > 0
    or sum {{ $by }} (audio_batch_lost_entries_total{ {{- $own -}} } unless audio_batch_lost_entries_total{ {{- $own -}} } offset 15m) > 0
  severity: page
  summary: Audio entries vanished from Redis before they were stored
- alert: AudioBatchDeadLetters
  expr: >-
    sum by (namespace, job, kind) (increase(audio_batch_dead_letters_total{ {{- $own -}} }[15m])) > 0
    or sum by (namespace, job, kind) (audio_batch_dead_letters_total{ {{- $own -}} } unless audio_batch_dead_letters_total{ {{- $own -}} } offset 15m) > 0
  severity: ticket
  summary: Entries went to the dead letters ({{`{{ $labels.kind }}`}})
- alert: AudioBatchDeadLettersPileUp
  expr: sum {{ $by }} (audio_batch_dead_letters_bytes{ {{- $own -}} }) / max {{ $by }} (audio_batch_redis_memory_limit_bytes{ {{- $own -}} } > 0) > {{ $limits.deadLetters }}
  for: 5m
  severity: ticket
  summary: Dead letters take {{`{{ $value | humanizePercentage }}`}} of Redis' memory
- alert: AudioBatchBatchesFail
  expr: >-
    sum by (namespace, job, error) (increase(audio_batch_batch_failures_total{ {{- $own -}} }[15m])) > 0
    or sum by (namespace, job, error) (audio_batch_batch_failures_total{ {{- $own -}} } unless audio_batch_batch_failures_total{ {{- $own -}} } offset 15m) > 0
  severity: page
  summary: Batches fail with {{`{{ $labels.error }}`}} and are tried again; their audio piles up in Redis
- alert: AudioBatchStoreRefusing
  expr: >-
    max {{ $by }} (audio_batch_store_failing_seconds{ {{- $own -}} }) > {{ $limits.storeFailing }}
    and sum {{ $by }} (increase(audio_batch_store_retries_total{ {{- $own -}} }[65m])) > 0
  for: 1m
  severity: page
  summary: The store has refused everything for {{`{{ $value | humanizeDuration }}`}}
- alert: AudioBatchStoreNameTaken
  expr: >-
    sum {{ $by }} (increase(audio_batch_store_conflicts_total{ {{- $own -}} ,outcome=~"foreign|damaged"}[15m])) > 0
    or sum {{ $by }} (audio_batch_store_conflicts_total{ {{- $own -}} ,outcome=~"foreign|damaged"} unless audio_batch_store_conflicts_total{ {{- $own -}} ,outcome=~"foreign|damaged"} offset 15m) > 0
  severity: ticket
  summary: An object of other content, or a damaged one, had the name of a blob; both were kept
{{- if include "audio-batch-worker.hasSpool" . }}
- alert: AudioBatchSpoolFilling
  expr: max {{ $by }} (audio_batch_spool_bytes{ {{- $own -}} } / (audio_batch_spool_limit_bytes{ {{- $own -}} } > 0)) > {{ $limits.spoolFilling }}
  for: 5m
  severity: page
  summary: The spool is {{`{{ $value | humanizePercentage }}`}} full because the store does not take its blobs
- alert: AudioBatchSpoolRefusing
  expr: >-
    sum by (namespace, job, cause) (increase(audio_batch_spool_refusals_total{ {{- $own -}} }[15m])) > 0
    or sum by (namespace, job, cause) (audio_batch_spool_refusals_total{ {{- $own -}} } unless audio_batch_spool_refusals_total{ {{- $own -}} } offset 15m) > 0
  severity: page
  summary: The spool does not take blobs ({{`{{ $labels.cause }}`}}); Redis holds the audio
- alert: AudioBatchSpoolDamaged
  expr: max {{ $by }} (audio_batch_spool_blobs{ {{- $own -}} ,state=~"damaged|torn"}) > 0
  for: 1m
  severity: page
  summary: Spooled audio can't be read, and Redis does not hold it any more
{{- end }}
- alert: AudioBatchPartitionUnowned
  expr: min {{ $by }} (audio_batch_partitions_unowned{ {{- $own -}} }) > 0
  for: 2m
  severity: page
  summary: No worker owns {{`{{ $value }}`}} of the partitions; their audio waits in Redis
- alert: AudioBatchNoWorkers
  expr: absent(audio_batch_build_info{ {{- $own -}} })
  for: 2m
  severity: page
  summary: No worker is running, or none is scraped
- alert: AudioBatchRedisMemoryHigh
  expr: >-
    max {{ $by }} (audio_batch_redis_memory_bytes{ {{- $own -}} } / (audio_batch_redis_memory_limit_bytes{ {{- $own -}} } > 0)) > {{ $limits.redisMemoryWarning }}
  for: 2m
  severity: ticket
  summary: Redis uses {{`{{ $value | humanizePercentage }}`}} of its memory
- alert: AudioBatchRedisMemoryFull
  expr: >-
    max {{ $by }} (audio_batch_redis_memory_bytes{ {{- $own -}} } / (audio_batch_redis_memory_limit_bytes{ {{- $own -}} } > 0)) > {{ $limits.redisMemoryCritical }}
  for: 1m
  severity: page
  summary: Redis uses {{`{{ $value | humanizePercentage }}`}} of its memory; at 100 % it refuses audio
- alert: AudioBatchRedisAway
  expr: min {{ $by }} (sum by (namespace, job, pod) (rate(audio_batch_redis_errors_total{ {{- $own -}} ,cause="connection"}[2m]))) > 0.3
  for: 1m
  severity: page
  summary: No worker reaches Redis; pushers have to keep audio
- alert: AudioBatchRedisErrors
  expr: sum {{ $by }} (rate(audio_batch_redis_errors_total{ {{- $own -}} }[5m])) > 0.2
  for: 5m
  severity: ticket
  summary: Requests to Redis keep failing
- alert: AudioBatchLeasesLost
  expr: sum {{ $by }} (increase(audio_batch_leases_lost_total{ {{- $own -}} }[15m])) > 3
  severity: ticket
  summary: Workers lose leases they still wanted
- alert: AudioBatchReadingPaused
  expr: avg {{ $by }} (avg_over_time(audio_batch_reading_paused{ {{- $own -}} }[10m])) > 0.5
  for: 5m
  severity: ticket
  summary: Workers stop reading most of the time because their memory is full
- alert: AudioBatchEventLoopSlow
  expr: histogram_quantile(0.99, sum by (namespace, job, pod, le) (rate(audio_batch_event_loop_delay_seconds_bucket{ {{- $own -}} }[5m]))) > 0.5
  for: 10m
  severity: ticket
  summary: The event loop of {{`{{ $labels.pod }}`}} is {{`{{ $value | humanizeDuration }}`}} late
- alert: AudioBatchChunksMissing
  expr: sum {{ $by }} (increase(audio_batch_seq_missing_total{ {{- $own -}} }[30m])) > 0
  severity: ticket
  summary: Pushers skipped chunk numbers; that audio never reached Redis
- alert: AudioBatchChunksMisplaced
  expr: >-
    sum {{ $by }} (increase(audio_batch_misplaced_chunks_total{ {{- $own -}} }[30m])) > 0
  severity: ticket
  summary: Chunks are pushed into other streams than those of their conversations
- alert: AudioBatchStrayStreams
  expr: max {{ $by }} (audio_batch_stray_entries{ {{- $own -}} }) > 0
  for: 5m
  severity: page
  summary: '{{`{{ $value }}`}} entries wait in streams that no worker reads'
- alert: AudioBatchTwoRevisions
  expr: count {{ $by }} (count by (namespace, job, revision) (audio_batch_build_info{ {{- $own -}} })) > 1
  for: 30m
  severity: ticket
  summary: A rollout does not finish
{{- end }}
