"""An S3 bucket, reached with the credentials and the endpoint that boto3 would use."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from obstore.store import S3Store

from embedding_assets.errors import ConfigurationError
from embedding_assets.settings import S3Settings, endpoint_without_password


def s3_backend(bucket: str, prefix: str, s3: S3Settings) -> S3Store:
    """obstore's store for a bucket and prefix; ConfigurationError where boto3 cannot be set up."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    endpoint_without_password(s3.endpoint_url)
    try:
        session = boto3.Session(
            profile_name=s3.profile_name,
            region_name=s3.region_name,
            aws_access_key_id=s3.aws_access_key_id,
            aws_secret_access_key=s3.aws_secret_access_key,
            aws_session_token=s3.aws_session_token,
        )
        region = session.region_name or "us-east-1"
        client = session.client(
            "s3", region_name=region, endpoint_url=s3.endpoint_url, use_ssl=s3.use_ssl, config=Config()
        )
        endpoint = str(endpoint_without_password(str(client.meta.endpoint_url)))  # a profile may set it, too
        if not s3.use_unsigned_session and session.get_credentials() is None:
            raise ConfigurationError(
                f"s3://{bucket}",
                "boto3 finds no credentials",
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or an instance role.",
            )
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"s3://{bucket}", f"boto3 cannot be set up ({error})", "Check the AWS settings."
        ) from None
    options: dict[str, Any] = {} if ".amazonaws.com" in endpoint else {"endpoint": endpoint}
    if s3.use_unsigned_session:
        options["skip_signature"] = True
    else:
        options["credential_provider"] = Boto3CredentialProvider(session)
    return S3Store(
        bucket,
        prefix=prefix or None,
        region=region,
        # The server checks every upload against a SHA-256 that is computed here.
        checksum_algorithm="SHA256",
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "allow_invalid_certificates": s3.verify is False,
            "timeout": timedelta(minutes=10),
            "connect_timeout": timedelta(seconds=10),
        },
        retry_config={
            "max_retries": s3.max_attempts,
            "retry_timeout": timedelta(minutes=3),
            "backoff": {"base": 2, "init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=15)},
        },
        **options,
    )
