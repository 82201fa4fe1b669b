"""Models at providers, through litellm: an extra, imported only when such a model is opened, and never for Ollama."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from harness.errors import ContextOverflow, MarginaliaError, ModelError, ModelUnavailable, NoModelError
from harness.models.base import Finish, ModelInfo, OnText, Reply, Request, TokenLogprob

PROVIDERS = frozenset(
    "ai21 anthropic azure azure_ai bedrock cerebras cohere cohere_chat databricks deepinfra deepseek fireworks_ai gemini"
    " groq hosted_vllm huggingface litellm_proxy lm_studio mistral moonshot nvidia_nim openai openrouter perplexity"
    " sagemaker sambanova text-completion-openai together_ai vertex_ai watsonx xai".split()
)
"""litellm's prefixes that make a name remote. ``someone/model`` with any other first part is an Ollama name."""
SLOTS = 8
RETRIES = 2
_UNAVAILABLE = {
    "APIConnectionError",
    "BadGatewayError",
    "InternalServerError",
    "RateLimitError",
    "ServiceUnavailableError",
    "Timeout",
}
_REFUSED = {"AuthenticationError", "PermissionDeniedError"}


def is_remote(name: str) -> bool:
    """Whether a model name means a provider: ``provider/model`` with a provider that litellm has.

    >>> is_remote("openai/gpt-4o"), is_remote("hf.co/someone/model"), is_remote("ollama/qwen3")
    (True, False, False)
    """
    return name.partition("/")[0] in PROVIDERS and "/" in name


def ollama_name(name: str) -> str:
    """A name without litellm's prefix for Ollama: that is served by our own backend.

    >>> ollama_name("ollama_chat/qwen3:4b")
    'qwen3:4b'
    """
    return name.removeprefix("ollama_chat/").removeprefix("ollama/")


def _import_litellm() -> Any:
    """litellm, kept from fetching its price list, reading ``.env`` files and telling on us."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    try:
        import litellm
    except ImportError:
        raise NoModelError(
            "remote models need the package litellm, which is not installed", "pip install 'marginalia[remote]'"
        ) from None
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.drop_params = True  # what a provider does not know (a seed, say) is left out
    return litellm


class RemoteModel:
    """A provider's model behind the protocol of ``harness.models.base``. Thread-safe.

    Chat requests go to the chat API; raw prompts to the completion API, which few providers have (a vLLM server has).
    The schema is sent as ``response_format`` and in the prompt, and the reply is checked to be JSON.
    """

    def __init__(self, name: str, *, timeout: float = 600.0, contract: str = "") -> None:
        """Raises NoModelError where litellm is missing or the name is no provider's."""
        if not is_remote(name):
            raise NoModelError(f"{name} is not a remote model", "write it as provider/model")
        self._litellm = _import_litellm()
        self._timeout = timeout
        self._errors = tuple(
            value
            for value in vars(self._litellm.exceptions).values()
            if isinstance(value, type) and issubclass(value, Exception)
        )
        known = self._litellm.model_cost.get(name) or self._litellm.model_cost.get(name.partition("/")[2]) or {}
        self._info = ModelInfo(name, "remote", "", int(known.get("max_input_tokens") or 0), contract)

    @property
    def info(self) -> ModelInfo:
        """Name and context; a provider's model has no digest."""
        return self._info

    @property
    def slots(self) -> int:
        """Requests at once that providers usually bear."""
        return SLOTS

    def reserve(self, tokens: int) -> None:
        """Raises ContextOverflow for more than the model holds, where that is known."""
        if 0 < self._info.context < tokens:
            raise ContextOverflow(
                f"{self._info.name}: {tokens} tokens do not fit into its context of {self._info.context}",
                "shorten the text or take a model with a larger context",
            )

    def count_tokens(self, text: str) -> int:
        """An upper estimate, as tokenizers would have to be downloaded: two ASCII letters a token, 1.5 tokens any other."""
        return sum(1 if ord(letter) < 128 else 3 for letter in text) // 2 + 1

    def close(self) -> None:
        """Nothing is held."""

    def generate(self, request: Request, *, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Reply:
        """As the protocol says. Raises ModelUnavailable, ContextOverflow, NoModelError, ModelError."""
        started = time.monotonic()
        answer = _Answer()
        try:
            for chunk in self._send(request):
                if cancel is not None and cancel.is_set():
                    answer.finish = "cancelled"
                    break
                piece = answer.add(chunk)
                if piece and on_text is not None:
                    on_text(piece)
        except self._errors as error:
            raise _explain(error, self._info.name) from None
        finish = answer.finished(self._info.name)
        text = "".join(answer.pieces)
        if request.schema is not None and finish == "stop":
            _check_json(text, self._info.name)
        return Reply(
            text=text,
            finish=finish,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            seconds=time.monotonic() - started,
            logprobs=tuple(answer.logprobs),
        )

    def _send(self, request: Request) -> Any:
        """Start the stream of a request: always streamed, so that it can be stopped and a silent provider is noticed."""
        options = request.options
        values: dict[str, Any] = {
            "model": self._info.name,
            "max_tokens": options.max_tokens,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "seed": options.seed,
            "stop": list(options.stop) or None,
            "stream": True,
            "stream_options": {"include_usage": True},
            "num_retries": RETRIES,
            "timeout": self._timeout,
        }
        if request.prompt is not None:
            values["logprobs"] = options.top_logprobs or None
            values = {key: value for key, value in values.items() if value is not None}
            return self._litellm.text_completion(prompt=request.prompt, **values)
        messages = request.messages
        if request.schema is not None:
            from harness.models.ollama import with_schema

            messages = with_schema(messages, request.schema)
            schema = {"name": "answer", "schema": dict(request.schema), "strict": True}
            values["response_format"] = {"type": "json_schema", "json_schema": schema}
        if options.top_logprobs:
            values |= {"logprobs": True, "top_logprobs": options.top_logprobs}
        values = {key: value for key, value in values.items() if value is not None}
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return self._litellm.completion(messages=turns, **values)


class _Answer:
    """What has come of a reply so far."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.finish: str | None = None
        self.prompt_tokens = self.completion_tokens = 0

    def add(self, chunk: Any) -> str:
        """Take one chunk, of a chat or of a completion, and return its text."""
        if usage := getattr(chunk, "usage", None):
            self.prompt_tokens, self.completion_tokens = usage.prompt_tokens or 0, usage.completion_tokens or 0
        if not chunk.choices:  # the last chunk of a stream holds the usage alone
            return ""
        choice = chunk.choices[0]
        self.finish = getattr(choice, "finish_reason", None) or self.finish
        self.logprobs += _logprobs(getattr(choice, "logprobs", None))
        delta = getattr(choice, "delta", None)
        piece: str = (delta.content if delta is not None else getattr(choice, "text", "")) or ""
        if piece:
            self.pieces.append(piece)
        return piece

    def finished(self, name: str) -> Finish:
        """Why it ended. A stream that ends without saying so was cut."""
        if self.finish is None:
            raise ModelUnavailable(f"{name}: the reply broke off")
        if self.finish == "content_filter":
            raise ModelError(f"{name}: the provider's filter stopped the reply", "change the text or the model")
        return "length" if self.finish == "length" else "cancelled" if self.finish == "cancelled" else "stop"


def _logprobs(found: Any) -> list[TokenLogprob]:
    """Log-probabilities of one chunk: a list of tokens (chat), or lists side by side (completion)."""
    if found is None:
        return []
    if content := getattr(found, "content", None):
        return [
            TokenLogprob(token.token, token.logprob, {top.token: top.logprob for top in token.top_logprobs or ()})
            for token in content
        ]
    tokens, values = getattr(found, "tokens", None) or (), getattr(found, "token_logprobs", None) or ()
    tops: Iterable[Mapping[str, float] | None] = getattr(found, "top_logprobs", None) or [None] * len(tokens)
    return [TokenLogprob(*row[:2], dict(row[2] or {})) for row in zip(tokens, values, tops, strict=False)]


def _check_json(text: str, name: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        remedy = "take a model with structured output"
        raise ModelError(f"{name}: the reply is not the JSON that was asked for", remedy) from None


def _explain(error: Exception, name: str) -> MarginaliaError:
    """litellm's error as one of ours, by the names of its classes."""
    from harness.models.ollama_errors import one_line

    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = one_line(str(error))
    if "ContextWindowExceededError" in kinds:
        return ContextOverflow(f"{name}: prompt and output do not fit ({text})", "shorten the text")
    if kinds & _REFUSED:
        return ModelError(f"{name}: the provider refused the key ({text})", "set the provider's API key, see its manual")
    if "NotFoundError" in kinds:
        return NoModelError(f"{name}: the provider has no such model ({text})", "check the name")
    if kinds & _UNAVAILABLE:
        return ModelUnavailable(f"{name}: the provider cannot be used now ({text})")
    return ModelError(f"{name}: the provider answered with an error ({text})", "check name and options")
