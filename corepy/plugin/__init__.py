"""The API for plugin authors.

A plugin is an importable object named by an entry point in the group `corepy.plugins`; the entry's
name is the directive. Usually it is a package with

    api_version = 1

    def setup(controller: Controller) -> None: ...

and optionally `acts_once = True`, if it has no handlers and only one process of a server should run
it (`corepy.plugin.process_group`). A third-party plugin may also have `before` and `after`: tuples
of the directives that it must precede or follow in the chain.
"""

from corepy.corefile import CorefileError as CorefileError
from corepy.corefile import Diagnostic as Diagnostic
from corepy.corefile import Mistakes as Mistakes
from corepy.corefile import Token as Token
from corepy.corefile import parse_integer as parse_integer
from corepy.corefile import parse_unsigned as parse_unsigned
from corepy.corefile import suggest as suggest
from corepy.corefile import suggest_file as suggest_file
from corepy.flags import parse_boolean as parse_boolean
from corepy.plugin.block_config import BlockConfig as BlockConfig
from corepy.plugin.block_config import Debug as Debug
from corepy.plugin.block_config import ListenerConfig as ListenerConfig
from corepy.plugin.block_config import ListenHosts as ListenHosts
from corepy.plugin.block_config import QueryTimeout as QueryTimeout
from corepy.plugin.block_config import Root as Root
from corepy.plugin.block_config import SocketCount as SocketCount
from corepy.plugin.block_filter import BlockFilter as BlockFilter
from corepy.plugin.block_filter import BlockFilters as BlockFilters
from corepy.plugin.block_filter import MetadataCollector as MetadataCollector
from corepy.plugin.block_handlers import BlockHandlers as BlockHandlers
from corepy.plugin.changed_names import ChangedNames as ChangedNames
from corepy.plugin.controller import Controller as Controller
from corepy.plugin.duration import parse_duration as parse_duration
from corepy.plugin.duration import show_duration as show_duration
from corepy.plugin.errors import CommandError as CommandError
from corepy.plugin.errors import OrderError as OrderError
from corepy.plugin.errors import PluginError as PluginError
from corepy.plugin.errors import StartupError as StartupError
from corepy.plugin.filedata import FileData as FileData
from corepy.plugin.filedata import in_thread as in_thread
from corepy.plugin.gates import Denial as Denial
from corepy.plugin.gates import Gate as Gate
from corepy.plugin.gates import GatingHandler as GatingHandler
from corepy.plugin.gates import denied_reply as denied_reply
from corepy.plugin.handler import Cacheability as Cacheability
from corepy.plugin.handler import ChainLink as ChainLink
from corepy.plugin.handler import EndOfChain as EndOfChain
from corepy.plugin.handler import Handler as Handler
from corepy.plugin.handler import handlers_below as handlers_below
from corepy.plugin.hooks import API_VERSION as API_VERSION
from corepy.plugin.hooks import HookSpecs as HookSpecs
from corepy.plugin.hooks import LifecycleContext as LifecycleContext
from corepy.plugin.hooks import hookimpl as hookimpl
from corepy.plugin.hooks import hookspec as hookspec
from corepy.plugin.limit_options import LimitOptions as LimitOptions
from corepy.plugin.listener_settings import CertificateSource as CertificateSource
from corepy.plugin.listener_settings import Conflict as Conflict
from corepy.plugin.listener_settings import GRPCLimits as GRPCLimits
from corepy.plugin.listener_settings import HTTPS3Limits as HTTPS3Limits
from corepy.plugin.listener_settings import HTTPSLimits as HTTPSLimits
from corepy.plugin.listener_settings import ListenerSetting as ListenerSetting
from corepy.plugin.listener_settings import QUICLimits as QUICLimits
from corepy.plugin.listener_settings import ServerCertificate as ServerCertificate
from corepy.plugin.listener_settings import Timeouts as Timeouts
from corepy.plugin.listener_settings import TLSSetting as TLSSetting
from corepy.plugin.listener_settings import TSIGKeys as TSIGKeys
from corepy.plugin.log import plugin_logger as plugin_logger
from corepy.plugin.lookup import DEPENDS_ON_CLIENT as DEPENDS_ON_CLIENT
from corepy.plugin.lookup import MADE_WITH_LOOKUPS as MADE_WITH_LOOKUPS
from corepy.plugin.lookup import PREFERS_FRESH as PREFERS_FRESH
from corepy.plugin.lookup import is_lookup as is_lookup
from corepy.plugin.lookup import lookup as lookup
from corepy.plugin.mixins import CallObserver as CallObserver
from corepy.plugin.mixins import ExplainedHandler as ExplainedHandler
from corepy.plugin.mixins import FastHandler as FastHandler
from corepy.plugin.mixins import HitCounter as HitCounter
from corepy.plugin.mixins import HitListener as HitListener
from corepy.plugin.mixins import ObservingHandler as ObservingHandler
from corepy.plugin.mixins import StateFile as StateFile
from corepy.plugin.mixins import StatefulHandler as StatefulHandler
from corepy.plugin.pattern import NamePattern as NamePattern
from corepy.plugin.pending import Pending as Pending
from corepy.plugin.pending import Wakeups as Wakeups
from corepy.plugin.pending import apply_step as apply_step
from corepy.plugin.pending import without_deadline as without_deadline
from corepy.plugin.process_group import ProcessGroup as ProcessGroup
from corepy.plugin.proxy_policy import ProxyAction as ProxyAction
from corepy.plugin.proxy_policy import ProxyPolicy as ProxyPolicy
from corepy.plugin.zone_matching import Fallthrough as Fallthrough
from corepy.plugin.zone_matching import ZoneMatcher as ZoneMatcher
