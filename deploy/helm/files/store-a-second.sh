# Pushes a second of tone as a new conversation, waits until a worker has stored it, and removes it again.
# It runs as a container's argument, where Kubernetes would take two dollar signs in a row as an escape.
uid=helm-test
conversation="helm-test-$(date +%s%N)"
sound="$(mktemp -d)/second.wav"

python3 - "$sound" <<'PYTHON'
import array, math, sys, wave

with wave.open(sys.argv[1], "wb") as sound:
    sound.setnchannels(1)
    sound.setsampwidth(2)
    sound.setframerate(16000)
    sound.writeframes(array.array("h", (int(8000 * math.sin(i * 0.17)) for i in range(16000))).tobytes())
PYTHON

audio-batch-worker push "$sound" --uid "$uid" --conversation "$conversation"
deadline=$(($(date +%s) + ${TIMEOUT_SECONDS:-90}))
until audio-batch-worker ls --uid "$uid" --conversation "$conversation" --json | grep -q "/$conversation/"; do
    if [ "$(date +%s)" -ge "$deadline" ]; then
        echo "Not stored within ${TIMEOUT_SECONDS:-90} s. Look at: audio-batch-worker status" >&2
        echo "Once found, remove it: audio-batch-worker rm --uid $uid --conversation $conversation" >&2
        exit 1
    fi
    sleep 1
done
if audio-batch-worker rm --uid "$uid" --conversation "$conversation"; then
    echo "Pushed, stored, found and removed a second of audio."
else
    # Whoever only stores and reads needs no permission to delete.
    echo "Pushed, stored and found a second of audio; it could not be removed, see above."
fi
