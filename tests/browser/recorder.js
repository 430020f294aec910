// Put into the page before its own scripts: records what goes over the socket, what is handed to the
// loudspeaker and which words light up. The page knows nothing of it.
(() => {
  const seen = { received: [], sent: [], audio: [], audioContexts: 0, lit: [], stopClicks: [] };
  window.__seen = seen;

  const NativeSocket = window.WebSocket;
  window.WebSocket = class extends NativeSocket {
    constructor(url, protocols) {
      super(url, protocols);
      seen.sent.push({ protocols });
      this.addEventListener('message', ({ data }) => {
        if (typeof data === 'string') seen.received.push(JSON.parse(data));
        else seen.received.push({ type: 'audio', base64: toBase64(new Uint8Array(data.slice(0))) });
      });
    }

    send(data) {
      seen.sent.push(JSON.parse(data));
      super.send(data);
    }
  };

  if ('AudioWorklet' in window) watchLoudspeaker();

  function watchLoudspeaker() {
    const NativeContext = window.AudioContext;
    window.AudioContext = class extends NativeContext {
      constructor(options) {
        super(options);
        seen.audioContexts += 1;
        seen.context = this;
      }
    };
    if (window.__tapSource === null) return;
    const tapUrl = URL.createObjectURL(new Blob([window.__tapSource], { type: 'text/javascript' }));
    const addModule = AudioWorklet.prototype.addModule;
    AudioWorklet.prototype.addModule = async function (url) {
      await addModule.call(this, tapUrl);
      return addModule.call(this, url);
    };
    const connect = AudioNode.prototype.connect;
    AudioNode.prototype.connect = function (target, ...rest) {
      if (!(target instanceof AudioDestinationNode)) return connect.call(this, target, ...rest);
      const tap = new AudioWorkletNode(target.context, 'tap');
      seen.audio = [];
      tap.port.onmessage = ({ data }) => seen.audio.push(data);
      connect.call(this, tap);
      return connect.call(tap, target);
    };
  }

  /** Everything the loudspeaker got, from the first sound on: {base64 of float32, startFrame}. */
  window.__played = () => {
    const total = seen.audio.reduce((length, { samples }) => length + samples.length, 0);
    const all = new Float32Array(total);
    let at = 0;
    for (const { samples } of seen.audio) {
      all.set(samples, at);
      at += samples.length;
    }
    return {
      base64: toBase64(new Uint8Array(all.buffer)),
      startFrame: seen.audio[0]?.frame ?? 0,
      sampleRate: seen.context.sampleRate,
    };
  };

  document.addEventListener(
    'click',
    (event) => {
      if (!event.target.closest?.('#stop')) return;
      const { contextTime, performanceTime } = seen.context.getOutputTimestamp();
      seen.stopClicks.push({
        renderedAt: seen.context.currentTime,
        heardAt: contextTime + (performance.now() - performanceTime) / 1000,
      });
    },
    true,
  );

  document.addEventListener('DOMContentLoaded', () => {
    new MutationObserver((changes) => {
      for (const { target, oldValue } of changes) {
        const isNew = target.classList.contains('lit') && !oldValue?.includes('lit');
        if (isNew && target.classList.contains('word')) seen.lit.push(target.textContent);
      }
    }).observe(document.getElementById('transcript'), {
      subtree: true,
      attributeFilter: ['class'],
      attributeOldValue: true,
    });
  });

  function toBase64(bytes) {
    let text = '';
    for (let at = 0; at < bytes.length; at += 0x8000) {
      text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
    }
    return btoa(text);
  }
})();
